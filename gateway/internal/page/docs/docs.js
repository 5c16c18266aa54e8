// Shows the contract with Swagger UI, and under its title the first steps of somebody who is new here.
"use strict";

const start = document.createElement("div");
start.append(document.getElementById("start").content);

// withStart puts the steps into the page of Swagger UI, which React draws.
const withStart = () => ({
  wrapComponents: {
    InfoContainer: (Info, { React }) => (props) => React.createElement("div", null,
      React.createElement(Info, props),
      React.createElement("div", { ref: (place) => place?.append(start) })),
  },
});

const ui = SwaggerUIBundle({
  dom_id: "#reference",
  url: document.getElementById("reference").dataset.contract,
  plugins: [withStart],
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1, // schemas are shown where an operation uses them
  tagsSorter: (a, b) => (a === "platform") - (b === "platform"), // last what is about the platform itself
  validatorUrl: null, // no other host hears of this page
});

// show unfolds an operation and brings it into view.
function show(tag, operation) {
  ui.layoutActions.show(["operations-tag", tag], true);
  ui.layoutActions.show(["operations", tag, operation], true);
  document.getElementById(`operations-${tag}-${CSS.escape(operation)}`)?.scrollIntoView({ behavior: "smooth" });
}

const does = {
  more: (button) => button.setAttribute("aria-expanded", document.body.classList.toggle("everything")),
  register: () => show("auth", "auth.register"),
  login: () => {
    ui.authActions.showDefinitions(ui.authSelectors.definitionsToAuthorize());
    document.getElementById("oauth_username")?.focus();
  },
  call: () => show("auth", "auth.me"),
};

start.addEventListener("click", (event) => does[event.target.dataset.do]?.(event.target));

// The dialog's fields are in no form, so the browser does not know what Enter means.
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("#oauth_username, #oauth_password")) {
    event.target.closest(".auth-container").querySelector(".authorize").click();
  }
});
