// Copies what is shown once, and offers the browser's own time zone.
"use strict";
const word = name => document.getElementById("cp-words").dataset[name];
document.addEventListener("click", async event => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    try {
        await navigator.clipboard.writeText(source.textContent.trim());
        button.textContent = word("copied");
    } catch { // without HTTPS there is no clipboard
        getSelection().selectAllChildren(source);
        button.textContent = word("selected");
    }
});

document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-browser-zone]"), choice = document.querySelector("[data-time-zone]");
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (!button || ![...choice.options].some(option => option.value === zone && !option.selected)) return;
    button.hidden = false;
    button.textContent = `${word("zone")} ${zone}`;
    button.addEventListener("click", () => { choice.value = zone; button.hidden = true; });
});
