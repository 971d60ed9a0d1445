// Names what the libraries of the pages leave without a name: fields of documents, and areas that scroll; and shows
// commands in texts as code.
(function () {
  "use strict";

  function nameFields() {
    document.querySelectorAll(".rjf-form-wrapper input, .rjf-form-wrapper select, .rjf-form-wrapper textarea").forEach(function (field) {
      if (field.getAttribute("aria-label") || field.closest("label") || field.type === "hidden") return;
      var row = field.closest(".rjf-form-row"), label = row && row.querySelector("label");
      var group = field.closest(".rjf-form-group"), title = group && group.querySelector(".rjf-form-group-title");
      var text = (label || title) && (label || title).textContent.trim();
      if (text) field.setAttribute("aria-label", text);
    });
  }

  function nameChoices() {
    document.querySelectorAll(".select2-selection").forEach(function (box) {
      var select = box.closest(".select2-container").previousElementSibling;
      var label = select && select.id && document.querySelector('label[for="' + select.id + '"]');
      if (!label) return;
      [box].concat(Array.from(box.querySelectorAll(".select2-selection__rendered"))).forEach(function (part) {
        part.removeAttribute("aria-labelledby");
        part.setAttribute("aria-label", label.textContent.trim());
      });
    });
  }

  // Texts quote commands in backticks, as they do in a terminal and in the API; on a page they are code
  function markCode() {
    document.querySelectorAll(".leading-relaxed, .rjf-form-group-description, .rjf-help-text, [role=status] li").forEach(function (part) {
      Array.from(part.childNodes).forEach(function (node) {
        if (node.nodeType !== Node.TEXT_NODE || !/`[^`]+`/.test(node.data)) return;
        var made = document.createDocumentFragment();
        node.data.split(/`([^`]+)`/).forEach(function (text, i) {
          var piece = i % 2 ? document.createElement("code") : document.createTextNode(text);
          if (i % 2) piece.textContent = text;
          made.appendChild(piece);
        });
        node.replaceWith(made);
      });
    });
  }

  function nameAreas() {
    document.querySelectorAll(".simplebar-content-wrapper").forEach(function (area, i) {
      area.setAttribute("aria-label", document.getElementById("cp-words").dataset.area + " " + (i + 1));
    });
  }

  window.addEventListener("load", function () {
    var due = false;
    function name() {
      due = false;
      nameAreas();
      nameFields();
      nameChoices();
      markCode();
    }
    name();
    // Choices and rows of a document come later, too
    new MutationObserver(function () {
      if (!due) requestAnimationFrame(name);
      due = true;
    }).observe(document.body, { childList: true, subtree: true });
  });
})();
