// Modules that a page asks for by name (anywidget) lie beside this script, not on a CDN.
requirejs.config({ baseUrl: document.currentScript.src.replace(/[^/]*$/, "") });
