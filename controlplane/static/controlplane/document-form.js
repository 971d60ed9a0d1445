// Forms made for a choice (cluster, task type) or shown as JSON: choosing another posts what was entered so far
// and gets the form for it back. Groups of settings that are all left to their
// defaults start folded.
(function () {
  "use strict";

  function post(form, name, value) {
    var mark = document.createElement("input");
    mark.type = "hidden";
    mark.name = name;
    mark.value = value;
    form.appendChild(mark);
  }

  function rebuild(form) {
    post(form, "_rebuild", "1");
    form.classList.remove("warn-unsaved-form");
    window.onbeforeunload = null;
    form.submit();
  }

  document.addEventListener("change", function (event) {
    var field = event.target;
    if (field.matches && field.matches("select[data-rebuild]")) rebuild(field.form);
  });

  document.addEventListener("click", function (event) {
    var button = event.target.closest && event.target.closest("button[data-show]");
    if (!button || button.getAttribute("aria-pressed") === "true") return;
    post(button.form, button.name, button.dataset.show);
    rebuild(button.form);
  });

  function isLeftOut(field) {
    if (field.value !== "") return false;
    return field.placeholder === "(default)" || Array.from(field.options || []).some(function (option) {
      return option.text === "(default)";
    });
  }

  function fold() {
    document.querySelectorAll(".django-jsonform-container .rjf-form-group-inner").forEach(function (group) {
      var button = group.querySelector(":scope > .rjf-form-group-title .rjf-collapse-button");
      var fields = Array.from(group.querySelectorAll("input, select, textarea"));
      if (!button || !fields.length || !fields.every(isLeftOut)) return;
      if (!group.querySelector(".rjf-error-text, .rjf-multiselect-field")) button.click();
    });
  }

  if (document.readyState === "complete") fold();
  else window.addEventListener("load", fold);
})();
