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
