// Forms made for a choice (cluster, task type) or shown as JSON: choosing another posts what was entered so far
// and gets the form for it back. Settings that are left to their defaults start
// folded away: whole groups, and in a large group those that nobody has set.
(function () {
  "use strict";

  function word(name) {
    return document.getElementById("cp-words").dataset[name];
  }

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
    return field.placeholder === word("default") || Array.from(field.options || []).some(function (option) {
      return option.text === word("default");
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

  // Fewer than this are not worth a button.
  var MANY = 6;

  function shorten(children) {
    if (children.dataset.seen) return;
    children.dataset.seen = "1"; // what someone empties later stays where it is
    var rows = Array.from(children.querySelectorAll(":scope > .rjf-form-row"));
    var left = rows.filter(function (row) {
      return !row.querySelector(".rjf-error-text") && Array.from(row.querySelectorAll("input, select")).every(isLeftOut);
    });
    if (left.length < MANY || left.length === children.childElementCount) return;
    var more = document.createElement("button");
    more.type = "button";
    more.className = "rjf-add-button document-more";
    more.textContent = word("more").replace("{number}", left.length);
    more.addEventListener("click", function () {
      left.forEach(function (row) { row.hidden = false; });
      more.remove();
    });
    left.forEach(function (row) { row.hidden = true; });
    children.appendChild(more);
  }

  // django-jsonform shows "Select..." where nothing is chosen, although the first choice says what that means.
  function nameTheDefault(placeholder) {
    var select = placeholder.parentNode;
    var own = placeholder.nextElementSibling;
    if (!own || own.value !== "") return;
    var isEmpty = select.value === "";
    placeholder.value = "-";
    placeholder.hidden = true;
    if (isEmpty) select.value = "";
  }

  // Once more for what is built later, such as an entry that is added to a list.
  function settle(container) {
    // django-jsonform's own word. Written only where it is another one: each change calls this again
    if (word("add") !== "Add item") container.querySelectorAll(".rjf-add-button").forEach(function (button) {
      if (button.textContent === "Add item") button.textContent = word("add");
    });
    container.querySelectorAll("option[disabled][value='']").forEach(nameTheDefault);
    container.querySelectorAll(".rjf-form-group-children").forEach(shorten);
  }

  function start() {
    fold();
    document.querySelectorAll(".django-jsonform-container").forEach(function (container) {
      settle(container);
      new MutationObserver(function () { settle(container); }).observe(container, { childList: true, subtree: true });
    });
  }

  if (document.readyState === "complete") start();
  else window.addEventListener("load", start);
})();
