"use strict";
(() => {
  const settings = JSON.parse(document.getElementById("serve-settings").textContent);
  const [drop, files, token, status, download, save, result] =
    ["drop", "files", "token", "status", "download", "save", "result"].map((id) => document.getElementById(id));

  const say = (text) => { status.textContent = text; };
  const megabytes = (bytes) => `${Math.ceil(bytes / 2 ** 20)} MB`;

  function bytesOf(base64) {
    const text = atob(base64);
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  }

  function show(answer) {
    URL.revokeObjectURL(save.href);
    save.href = URL.createObjectURL(new Blob([bytesOf(answer.segmentation)], { type: "application/octet-stream" }));
    save.download = answer.name;
    download.hidden = false;
    result.srcdoc = answer.page;
    result.hidden = false;
    say(`Segmented in ${answer.seconds.toFixed(1)} s.`);
  }

  async function ask(chosen) {
    const form = new FormData();
    chosen.forEach((file) => form.append("file", file));
    const headers = settings.token ? { Authorization: `Bearer ${token.value.trim()}` } : {};
    const response = await fetch("segment?answer=page", { method: "POST", body: form, headers });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }

  async function segment(list) {
    const chosen = Array.from(list);
    if (!chosen.length) return;
    const size = chosen.reduce((sum, file) => sum + file.size, 0);
    result.hidden = download.hidden = true;
    if (size > settings.largest) {
      say(`The files have ${megabytes(size)}, and this service takes ${megabytes(settings.largest)}.`);
      return;
    }
    files.disabled = true;
    say("Segmenting ...");
    try {
      show(await ask(chosen));
    } catch (error) {
      say(error instanceof TypeError ? "The service does not answer." : error.message);
    }
    files.disabled = false;
    files.value = "";
  }

  files.addEventListener("change", () => segment(files.files));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!files.disabled) segment(event.dataTransfer.files);
  });
})();
