// Shows new deliveries as they arrive. The server sends each as the HTML of its row.
"use strict";

const main = document.querySelector("main");
const failing = document.querySelector(".failing");

const stream = new EventSource(`/inbox/events?since=${main.dataset.newest}`);
stream.addEventListener("delivery", (event) => {
  const { html, failures } = JSON.parse(event.data);
  document.querySelector(".empty")?.remove();
  main.insertAdjacentHTML("afterbegin", html);
  failing.hidden = failures === 0;
  failing.querySelector("b").textContent = failures;
});
