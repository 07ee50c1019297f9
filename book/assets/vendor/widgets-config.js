// Modules that a page asks for by name (anywidget) lie beside this script, not on a CDN.
requirejs.config({ baseUrl: document.currentScript.src.replace(/[^/]*$/, "") });

// Each widget asks MathJax to set the formulas in its label, by a call that went with version 2.
// The labels in this book have none, so there is nothing to do.
addEventListener("DOMContentLoaded", () => {
  if (window.MathJax) MathJax.Hub = { Queue() {} };
});
