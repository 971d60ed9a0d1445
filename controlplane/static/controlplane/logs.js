// Filters the logs on an execution's page, and adds what is new until some seconds after the execution has ended.
(function () {
  "use strict";
  // The last lines come after the end: a party sends them once a second
  var EVERY = 1000, AFTER_END = 6000;
  var failures = 0, endedAt = 0, generation = 0;

  function panel() {
    return document.querySelector("[data-logs]");
  }

  function chosen() {
    var form = panel().querySelector("form");
    return form ? new URLSearchParams(new FormData(form)) : new URLSearchParams();
  }

  function get(more) {
    var query = chosen();
    Object.keys(more).forEach(function (name) { query.set(name, more[name]); });
    return fetch(panel().dataset.logs + "?" + query, { headers: { "X-Requested-With": "fetch" }, credentials: "same-origin" })
      .then(function (response) {
        if (!response.ok || !response.headers.get("X-Fragment")) throw new Error(String(response.status));
        return response.text().then(function (html) { return [html, response.headers.get("X-Place")]; });
      });
  }

  function toEnd() {
    var part = panel().querySelector(".cp-log-scroll");
    if (part) part.scrollTop = part.scrollHeight;
  }

  // The whole panel: after another choice, and when the first lines have come
  function showAnew() {
    var mine = ++generation, focused = document.activeElement && document.activeElement.name;
    return get({}).then(function (found) {
      if (mine !== generation) return;
      panel().outerHTML = found[0];
      prepare();
      var field = focused && panel().querySelector('[name="' + focused + '"]');
      if (field) field.focus();
    });
  }

  function add(html) {
    var body = panel().querySelector("tbody"), part = panel().querySelector(".cp-log-scroll");
    var isAtEnd = part.scrollHeight - part.scrollTop - part.clientHeight < 40;
    var none = panel().querySelector("[data-none]");
    if (none) none.remove();
    body.insertAdjacentHTML("beforeend", html);
    while (body.rows.length > Number(panel().dataset.most)) body.deleteRow(0);
    if (isAtEnd) part.scrollTop = part.scrollHeight;
  }

  function refresh() {
    if (document.hidden) return later();
    var mine = generation;
    get({ after: panel().dataset.place })
      .then(function (found) {
        failures = 0;
        if (mine !== generation || found[1] === panel().dataset.place) return;
        // A party that had sent nothing has sent its first lines: its note goes, and the filter comes
        var silent = Array.from(panel().querySelectorAll("[data-silent]")).map(function (part) { return part.dataset.silent; });
        var isFirst = silent.some(function (name) { return found[0].indexOf("<td>" + name) >= 0; });
        if (isFirst || !panel().querySelector("tbody")) return showAnew();
        panel().dataset.place = found[1];
        if (found[0].trim()) add(found[0]);
      })
      .catch(function () { failures += 1; })
      .then(later);
  }

  function later() {
    var part = document.querySelector("[data-live]");
    if (!panel() || !part) return;
    if ("ended" in part.dataset) endedAt = endedAt || Date.now();
    if (endedAt && Date.now() - endedAt > AFTER_END) return;
    setTimeout(refresh, Math.min(EVERY * Math.pow(2, failures), 30000));
  }

  function prepare() {
    var button = panel().querySelector("[data-show]");
    if (button) button.remove(); // the choice itself is enough
    toEnd();
  }

  document.addEventListener("change", function (event) {
    if (event.target.closest("[data-logs] form")) showAnew().catch(function () { failures += 1; });
  });

  if (panel()) {
    prepare();
    later();
  }
})();
