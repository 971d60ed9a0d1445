// Keeps an execution's page fresh until it has ended, and asks before it is cancelled.
(function () {
  "use strict";
  var EVERY = 1000;
  var failures = 0;

  document.addEventListener("submit", function (event) {
    var question = event.target.dataset && event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  function live() {
    return document.querySelector("[data-live]");
  }

  function later() {
    var part = live();
    // twice as long after each failure, half a minute at most: a server that restarts is not hammered
    if (part && !("ended" in part.dataset)) setTimeout(refresh, Math.min(EVERY * Math.pow(2, failures), 30000));
  }

  function refresh() {
    if (document.hidden) return later();
    fetch(live().dataset.live, { headers: { "X-Requested-With": "fetch" }, credentials: "same-origin" })
      .then(function (response) {
        // logged out in between: the answer is the login page
        if (!response.ok || !response.headers.get("X-Fragment")) throw new Error(String(response.status));
        return response.text();
      })
      .then(function (html) {
        failures = 0;
        var open = [];
        live().querySelectorAll("details[data-keep][open]").forEach(function (part) { open.push(part.dataset.keep); });
        live().outerHTML = html;
        open.forEach(function (name) {
          var part = live().querySelector('details[data-keep="' + name + '"]');
          if (part) part.open = true;
        });
        document.dispatchEvent(new Event("cp:shown"));
      })
      .catch(function () {
        failures += 1;
      })
      .then(later);
  }

  later();
})();
