// The search page: plain JavaScript without a build step. Everything from the server goes through textContent.

const $ = (id) => document.getElementById(id);
const state = { role: "search", query: null, queryUrl: null, hits: [], shown: -1, images: new Map(), files: [], stop: false };

// Asking the server.

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...(options.headers ?? {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    await askForToken();
    return ask(path, options);
  }
  if (!response.ok) {
    let reason = `the service answered ${response.status}`;
    try { reason = (await response.json()).error ?? reason; } catch { /* no JSON: the status has to do */ }
    throw new Error(reason);
  }
  return response;
}

let asking = null;
function askForToken() {
  if (asking) return asking;
  const dialog = $("token-dialog");
  const form = $("token-form");
  asking = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", form.elements.token.value.trim());
      form.reset();
      asking = null;
      resolve();
    }, { once: true });
  });
  dialog.showModal();
  return asking;
}

function sayProblem(error) {
  $("problem").textContent = error ? sentence(error.message ?? String(error)) : "";
  $("problem").hidden = !error;
}

async function attempt(work) {
  sayProblem(null);
  try { return await work(); } catch (error) { sayProblem(error); return undefined; }
}

// Small helpers.

function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  if (content instanceof Node) made.append(content); else made.textContent = content;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
const percent = (share) => share > 0.995 ? "over 99 %" : share < 0.005 ? "under 1 %" : `${Math.round(100 * share)} %`;
const clock = (time) => time ? new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "time not known";
const camera = (name) => name ?? "camera not known";
const lightName = (modality) => modality === "visible" ? "visible light" : "infrared";
const count = (number, word) => `${number.toLocaleString()} ${word}${number === 1 ? "" : "s"}`;

async function imageUrl(id) {
  if (!state.images.has(id)) {
    const loading = ask(`api/v1/rows/${id}/image`).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
    state.images.set(id, loading.catch(() => null));
  }
  return state.images.get(id);
}

async function fill(image, id) {
  const url = await imageUrl(id);
  if (url) image.src = url;
  else image.replaceWith(element("span", "no stored image", { class: "none" }));
}

// The gallery.

async function showContents() {
  const found = await (await ask("api/v1/gallery")).json();
  state.role = found.role;
  $("contents").textContent = found.rows === 0 ? "The gallery is empty." :
    `${count(found.rows, "image")}: ${found.visible.toLocaleString()} visible, ${found.infrared.toLocaleString()} infrared, ` +
    `${count(found.cameras.length, "camera")}.` + (found.calibrated ? "" : " The model has no calibration, so only similarities are shown.");
  const chosen = new Set(new FormData($("search-form")).getAll("camera"));
  const named = found.cameras.filter((one) => one.camera !== null);
  $("camera-list").replaceChildren(...named.map((one) => {
    const box = element("input", "", { type: "checkbox", name: "camera", value: one.camera });
    box.checked = chosen.has(one.camera);
    const label = element("label", box);
    label.append(` ${one.camera} (${one.rows.toLocaleString()})`);
    return label;
  }));
  $("cameras").hidden = named.length === 0;
  $("remove-camera").elements.camera.replaceChildren(...named.map((one) => element("option", one.camera)));
  document.querySelector('[data-view="add"]').hidden = state.role === "search";
  document.querySelector('[data-view="manage"]').hidden = state.role !== "admin";
  $("change-token").hidden = sessionStorage.getItem("token") === null;
  $("side-remove").hidden = state.role !== "admin";
}

// Searching.

// On a phone the filters would push the results below the second screen, so they are closed until they are wanted.
const narrow = window.matchMedia("(max-width: 45rem)");
function foldFilters() { $("filters").open = !narrow.matches; }

function showFiltersSet() {
  const form = new FormData($("search-form"));
  const set = [
    ...(form.get("only") ? [lightName(form.get("only"))] : []),
    ...form.getAll("camera"),
    ...["since", "until"].filter((name) => form.get(name)).map((name) => `${name} ${clock(form.get(name))}`),
  ];
  $("filters-set").textContent = set.length ? `: ${set.join(", ")}` : "";
}

function setQuery(file) {
  if (!file) return;
  state.query = file;
  if (state.queryUrl) URL.revokeObjectURL(state.queryUrl);
  state.queryUrl = URL.createObjectURL(file);
  $("query-image").src = state.queryUrl;
  $("query-image").hidden = false;
  $("drop-words").textContent = "Drop or paste another image, or choose a file.";
  $("guess").textContent = "";
  $("search-form").querySelector("[type=submit]").disabled = false;
}

function searchParameters() {
  const form = new FormData($("search-form"));
  const wanted = new URLSearchParams();
  for (const name of ["modality", "only", "top"]) if (form.get(name)) wanted.set(name, form.get(name));
  for (const name of form.getAll("camera")) wanted.append("camera", name);
  for (const name of ["since", "until"]) if (form.get(name)) wanted.set(name, new Date(form.get(name)).toISOString());
  wanted.set("group", form.get("group") ? "true" : "false");
  return wanted;
}

async function search() {
  if (!state.query) return;
  $("verdict").className = "";
  $("verdict").textContent = "Searching …";
  const answer = await attempt(async () => {
    const response = await ask(`api/v1/search?${searchParameters()}`, { method: "POST", body: state.query });
    return response.json();
  });
  if (!answer) { $("verdict").textContent = ""; return; }
  state.hits = answer.hits;
  const light = lightName(answer.query.modality);
  $("guess").textContent = answer.query.guessed ? `Guessed: ${light}. Choose the other one if that is wrong.` : "";
  showVerdict(answer);
  $("hits").replaceChildren(...answer.hits.map((hit, place) => hitCard(hit, () => openSide(place))));
  showTimeline(answer.hits);
  $("results").focus({ preventScroll: true });
  if (narrow.matches) $("results").scrollIntoView();
}

function showVerdict(answer) {
  const verdict = $("verdict");
  const best = answer.hits[0];
  verdict.className = answer.no_one_here === null ? "" : answer.no_one_here ? "no-one" : "found";
  if (!best) verdict.textContent = "Nothing was found: no image satisfies the filters.";
  else if (answer.no_one_here === null) {
    const first = answer.ordered_by === "probability" ? "most probable" : "most similar";
    verdict.textContent = `${count(answer.hits.length, "result")}, ${first} first.`;
  } else if (answer.no_one_here) {
    verdict.textContent = `No one here: no similarity reaches the threshold ${thresholds(answer)}. ` +
      "The percentages below hold only if the person is here.";
  } else {
    const reaching = answer.hits.filter((hit) => hit.above_threshold).length;
    verdict.textContent = `Probably here: ${reaching} of ${count(answer.hits.length, "result")} ${reaching === 1 ? "reaches" : "reach"} the threshold ` +
      `${thresholds(answer)}. Look at them before you decide.`;
  }
  if (best && answer.note) verdict.append(" ", element("span", sentence(answer.note), { class: "note" }));
}

// Thresholds of both kinds of light differ, so each is named where there are hits of both.
function thresholds(answer) {
  const mixed = new Set(answer.hits.map((hit) => hit.row.modality)).size > 1;
  return Object.entries(answer.thresholds).map(([modality, limit]) => limit.toFixed(2) + (mixed ? ` (${lightName(modality)})` : "")).join(" or ");
}

function hitCard(hit, open) {
  const button = element("button", "", { type: "button", class: "hit" });
  const picture = element("img", "", { alt: `Rank ${hit.rank}, ${camera(hit.row.camera)}`, loading: "lazy" });
  button.append(picture);
  fill(picture, hit.row.id);
  if (hit.probability === null) button.append(element("strong", `${hit.rank}. similarity ${hit.similarity.toFixed(2)}`));
  else {
    button.append(element("strong", `${hit.rank}. ${percent(hit.probability)} same person`));
    const bar = element("i");
    bar.style.width = `${100 * hit.probability}%`;
    button.append(element("span", bar, { class: "meter", "aria-hidden": "true" }));
    button.append(element("span", `similarity ${hit.similarity.toFixed(2)}`));
  }
  button.append(element("span", `${camera(hit.row.camera)}, ${lightName(hit.row.modality)}`));
  button.append(element("span", clock(hit.row.time)));
  if (hit.others.length) button.append(element("span", count(hit.others.length + 1, "frame")));
  if (hit.above_threshold === false) {
    button.classList.add("below");
    button.append(element("span", "below the threshold"));
  }
  button.addEventListener("click", open);
  const item = element("li");
  item.append(button);
  return item;
}

function showTimeline(hits) {
  const timed = hits.map((hit, place) => ({ hit, place, at: Date.parse(hit.first ?? hit.row.time ?? "") })).filter((one) => !Number.isNaN(one.at));
  const box = $("timeline");
  box.hidden = timed.length < 2;
  if (box.hidden) return;
  const first = Math.min(...timed.map((one) => one.at));
  const last = Math.max(...timed.map((one) => one.at));
  const lanes = new Map();
  for (const one of timed) {
    const name = camera(one.hit.row.camera);
    if (!lanes.has(name)) lanes.set(name, []);
    lanes.get(name).push(one);
  }
  box.replaceChildren(element("h2", "When and where"));
  for (const [name, ones] of [...lanes].sort((a, b) => Math.min(...a[1].map((x) => x.at)) - Math.min(...b[1].map((x) => x.at)))) {
    const lane = element("div", "", { class: "lane" });
    const track = element("div", "", { class: "track" });
    for (const one of [...ones].reverse()) {  // the best is drawn last, above the others
      const dot = element("button", String(one.hit.rank), { type: "button", "aria-label": `Rank ${one.hit.rank}, ${name}, ${clock(one.at)}`, title: clock(one.at) });
      if (one.hit.above_threshold === false) dot.classList.add("below");
      dot.style.left = `${last > first ? 100 * (one.at - first) / (last - first) : 50}%`;
      dot.addEventListener("click", () => openSide(one.place));
      track.append(dot);
    }
    lane.append(element("span", name, { title: name }), track);
    box.append(lane);
  }
  const ends = element("div", "", { class: "ends" });
  ends.append(element("span", clock(first)), element("span", clock(last)));
  box.append(ends);
}

// Side by side.

function openSide(place) {
  state.shown = place;
  const hit = state.hits[place];
  $("side-title").textContent = hit.probability === null ?
    `Rank ${hit.rank}: similarity ${hit.similarity.toFixed(2)}` : `Rank ${hit.rank}: ${percent(hit.probability)} same person`;
  $("side-query").src = state.queryUrl;
  const shown = element("img", "", { id: "side-hit", alt: `Rank ${hit.rank}` });
  $("side-hit")?.remove();
  $("side-caption").before(shown);
  $("side").querySelectorAll("figure .none").forEach((one) => one.remove());
  fill(shown, hit.row.id);
  $("side-caption").textContent = camera(hit.row.camera);
  const facts = [["Camera", camera(hit.row.camera)], ["Light", lightName(hit.row.modality)], ["Time", clock(hit.row.time)],
    ["Similarity", hit.similarity.toFixed(3)], ["File", hit.row.file ?? "not kept"], ["Track", hit.row.track ?? "none"], ["Id", hit.row.id]];
  if (hit.first && hit.last && hit.first !== hit.last) facts.splice(3, 0, ["Seen", `${clock(hit.first)} to ${clock(hit.last)}`]);
  $("side-facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  $("side-frames").replaceChildren(...hit.others.slice(0, 12).map((frame) => {
    const image = element("img", "", { alt: `Another frame, similarity ${frame.similarity.toFixed(2)}` });
    fill(image, frame.id);
    return image;
  }));
  $("side-previous").disabled = place === 0;
  $("side-next").disabled = place === state.hits.length - 1;
  if (!$("side").open) $("side").showModal();
  $("side").scrollTop = 0;
}

function step(by) {
  const next = state.shown + by;
  if (next >= 0 && next < state.hits.length) openSide(next);
}

async function searchWithHit() {
  const hit = state.hits[state.shown];
  const url = await imageUrl(hit.row.id);
  if (!url) return;
  const blob = await (await fetch(url)).blob();
  setQuery(new File([blob], "hit.jpg", { type: blob.type }));
  $("search-form").elements.modality.value = hit.row.modality;
  $("side").close();
  await search();
}

// Adding.

function choose(files) {
  state.files = [...files].filter((file) => !file.name.startsWith("."));
  $("chosen").textContent = state.files.length ? `${count(state.files.length, "file")} chosen.` : "Nothing is chosen yet.";
  $("add-form").querySelector("[type=submit]").disabled = state.files.length === 0;
}

async function addFiles() {
  const form = new FormData($("add-form"));
  const files = state.files;
  const progress = $("add-progress");
  const problems = $("add-problems");
  const done = { added: 0, present: 0, refused: 0 };
  state.stop = false;
  problems.replaceChildren();
  progress.hidden = false;
  progress.max = files.length;
  $("stop-adding").hidden = false;
  const submit = $("add-form").querySelector("[type=submit]");
  submit.disabled = true;
  const started = Date.now();
  for (const [place, file] of files.entries()) {
    if (state.stop) break;
    const wanted = new URLSearchParams();
    for (const name of ["modality", "camera"]) if (form.get(name)) wanted.set(name, form.get(name));
    if (form.get("time") === "modified") wanted.set("time", new Date(file.lastModified).toISOString());
    try {
      const answer = await (await ask(`api/v1/rows?${wanted}`, { method: "POST", body: file })).json();
      done.added += answer.added;
      done.present += answer.present;
    } catch (error) {
      done.refused += 1;
      if (done.refused <= 20) problems.append(element("li", `${file.name}: ${error.message}`));
    }
    progress.value = place + 1;
    const left = (Date.now() - started) / (place + 1) * (files.length - place - 1) / 1000;
    $("add-status").textContent = `${place + 1} of ${files.length}, about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left`;
  }
  $("stop-adding").hidden = true;
  submit.disabled = false;
  $("add-status").textContent = `${state.stop ? "Stopped. " : ""}Added ${done.added}, already there ${done.present}, refused ${done.refused}.`;
  await attempt(showContents);
}

// Managing.

function confirmed(words) {
  const dialog = $("confirm");
  $("confirm-words").textContent = words;
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); }, { once: true });
    dialog.returnValue = "no";
    dialog.showModal();
  });
}

async function removing(words, path, options) {
  if (!await confirmed(words)) return null;
  const done = await attempt(async () => (await ask(path, { method: "POST", ...options })).json());
  if (done) {
    $("manage-status").textContent = `Removed ${count(done.removed, "image")}; ${done.left.toLocaleString()} are left.`;
    await attempt(showContents);
  }
  return done;
}

const asJson = (body) => ({ headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

function personPath(what = "") {
  const wanted = new URLSearchParams({ similarity: $("person-form").elements.similarity.value });
  const modality = new FormData($("search-form")).get("modality");
  if (modality) wanted.set("modality", modality);
  return `api/v1/person${what}?${wanted}`;
}

function requireQuery() {
  if (state.query) return true;
  sayProblem(new Error("choose a query in the search view first"));
  return false;
}

// Wiring.

for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-view]")) {
      const shown = other === button;
      other.setAttribute("aria-pressed", String(shown));
      $(`view-${other.dataset.view}`).hidden = !shown;
    }
  });
}
$("query-file").addEventListener("change", (event) => setQuery(event.target.files[0]));
$("search-form").addEventListener("change", showFiltersSet);
narrow.addEventListener("change", foldFilters);
foldFilters();
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
const drop = $("drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); setQuery(event.dataTransfer.files[0]); });
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file) { setQuery(file); search(); }
});
$("side-previous").addEventListener("click", () => step(-1));
$("side-next").addEventListener("click", () => step(1));
$("side-close").addEventListener("click", () => $("side").close());
$("side-search").addEventListener("click", searchWithHit);
$("side").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
$("side-remove").addEventListener("click", async () => {
  const hit = state.hits[state.shown];
  $("side").close();
  const done = await removing(`Remove the image at rank ${hit.rank} for good?`, "api/v1/remove", asJson({ ids: [hit.row.id] }));
  if (done) await search();
});
for (const id of ["add-files", "add-folder"]) $(id).addEventListener("change", (event) => choose(event.target.files));
$("add-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(addFiles); });
$("stop-adding").addEventListener("click", () => { state.stop = true; });
$("remove-camera").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = event.target.elements.camera.value;
  removing(`Remove all images of ${name} for good?`, "api/v1/remove", asJson({ cameras: [name] }));
});
$("expire").addEventListener("submit", (event) => {
  event.preventDefault();
  const days = event.target.elements.days.value;
  removing(`Remove all images older than ${days} days for good?`, `api/v1/expire?older_than_days=${encodeURIComponent(days)}`, {});
});
$("person-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!requireQuery()) return;
  attempt(async () => {
    const hits = await (await ask(personPath(), { method: "POST", body: state.query })).json();
    state.hits = hits;
    $("person-hits").replaceChildren(...hits.slice(0, 100).map((hit, place) => hitCard(hit, () => openSide(place))));
    $("manage-status").textContent = `${count(hits.length, "image")} from this similarity on.`;
  });
});
$("person-export").addEventListener("click", () => {
  if (!requireQuery()) return;
  attempt(async () => {
    const blob = await (await ask(personPath("/export"), { method: "POST", body: state.query })).blob();
    const link = element("a", "", { href: URL.createObjectURL(blob), download: "person.zip" });
    link.click();
    $("manage-status").textContent = "Exported.";
  });
});
$("person-remove").addEventListener("click", () => {
  if (!requireQuery()) return;
  removing("Remove everything that looks like the query from this similarity on, for good?", personPath("/remove"), { body: state.query });
});
$("change-token").addEventListener("click", async () => { await askForToken(); attempt(showContents); });

attempt(showContents);
