// Keeps the rows of a list fresh while something in it has not ended, and names the field of the search.
(function () {
  "use strict";
  var EVERY = 4000, MOST = 60000;
  var failures = 0, timer = null;

  function head(within) {
    return within.querySelector("[data-list]");
  }

  function bodies(within) {
    return Array.prototype.slice.call(within.querySelectorAll("#result_list > tbody"));
  }

  function box(body) {
    return body.querySelector("input.action-select");
  }

  // What a row shows: its box's value, or its first link where there are no boxes
  function key(body) {
    var link = body.querySelector("a");
    return box(body) ? box(body).value : link ? link.pathname : "";
  }

  // Rows stay where they are while some are chosen, the keyboard is among them, or something is typed on the page
  function isHeld() {
    var table = document.getElementById("result_list"), active = document.activeElement;
    return (
      (table && (table.querySelector("input.action-select:checked") || table.contains(active))) ||
      (active && active.matches("input, select, textarea")) ||
      document.querySelector(".cpl-saved[open]")
    );
  }

  function later() {
    clearTimeout(timer);
    // twice as long after each failure, a minute at most: a server that restarts is not hammered
    var part = head(document);
    if (part && "live" in part.dataset && !document.hidden) {
      timer = setTimeout(refresh, Math.min(EVERY * Math.pow(2, failures), MOST));
    }
  }

  function write(old, fresh) {
    var cells = old.querySelectorAll(".data-row > td, .data-row > th");
    var others = fresh.querySelectorAll(".data-row > td, .data-row > th");
    for (var i = 0; i < cells.length && i < others.length; i += 1) {
      var chosen = cells[i].querySelector("input.action-select");
      if (chosen) {
        var other = others[i].querySelector("input.action-select");
        if (other) chosen.value = other.value;
      } else if (cells[i].innerHTML !== others[i].innerHTML && !cells[i].contains(document.activeElement)) {
        cells[i].innerHTML = others[i].innerHTML;
      }
    }
  }

  function show(found) {
    var old = bodies(document), fresh = bodies(found);
    if (isHeld()) {
      var byKey = {};
      fresh.forEach(function (body) { byKey[key(body)] = body; });
      old.forEach(function (body) { if (byKey[key(body)]) write(body, byKey[key(body)]); });
    } else if (old.length !== fresh.length) {
      // The first row, or one more than before: the page knows its boxes from when it was made
      window.location.reload();
      return;
    } else {
      old.forEach(function (body, index) { write(body, fresh[index]); });
    }
    var part = head(document), other = head(found);
    var total = part.querySelector("[data-total]"), now = other.querySelector("[data-total]").textContent;
    if (total.textContent !== now) total.textContent = now; // a screen reader tells it only then
    if (!("live" in other.dataset)) delete part.dataset.live;
  }

  function refresh() {
    if (document.hidden) return;
    fetch(window.location.href, { headers: { "X-Rows-Alone": "1" }, credentials: "same-origin", cache: "no-store" })
      .then(function (response) {
        // logged out in between: the answer is the login page
        if (!response.ok || !response.headers.get("X-Rows-Alone")) throw new Error(String(response.status));
        return response.text();
      })
      .then(function (html) {
        failures = 0;
        show(new DOMParser().parseFromString(html, "text/html"));
      })
      .catch(function () {
        failures += 1;
      })
      .then(later);
  }

  document.addEventListener("visibilitychange", function () {
    clearTimeout(timer);
    var part = head(document);
    if (!document.hidden && part && "live" in part.dataset) refresh();
  });

  document.addEventListener("DOMContentLoaded", function () {
    var field = document.getElementById("search-input-command");
    if (field) {
      var words = document.getElementById("cp-words").dataset;
      field.setAttribute("aria-label", words.search);
      field.setAttribute("placeholder", words.searchHint);
    }
    // unfold's links without an address: the one that opens the filters
    document.querySelectorAll("#changelist a:not([href])").forEach(function (link) {
      link.setAttribute("role", "button");
      link.setAttribute("tabindex", "0");
      link.addEventListener("keydown", function (event) {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          link.click();
        }
      });
    });
    later();
  });
})();
