// Copies what is shown once, and offers the browser's own time zone.
"use strict";
document.addEventListener("click", async event => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    try {
        await navigator.clipboard.writeText(source.textContent.trim());
        button.textContent = "Copied";
    } catch { // without HTTPS there is no clipboard
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: press Ctrl C";
    }
});

document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-browser-zone]"), choice = document.querySelector("[data-time-zone]");
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (!button || ![...choice.options].some(option => option.value === zone && !option.selected)) return;
    button.hidden = false;
    button.textContent = `Choose this browser's: ${zone}`;
    button.addEventListener("click", () => { choice.value = zone; button.hidden = true; });
});
