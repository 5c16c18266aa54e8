// Swagger UI writes text as markup. What it writes is cleaned by the browser first, where the browser can, and never becomes a script.
if (window.trustedTypes) {
  trustedTypes.createPolicy("default", {
    createHTML(text) {
      if (!Element.prototype.setHTML) return text; // what Swagger UI has cleaned by itself
      const cleaned = document.implementation.createHTMLDocument("").body;
      cleaned.setHTML(text);
      return cleaned.innerHTML;
    },
  });
}
