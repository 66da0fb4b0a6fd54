"use strict";
/* The address behind # is the view: #/, #/a/ID, #/compare, each with what is chosen behind ?. */
(() => {
  const main = document.getElementById("main");
  const compare = document.getElementById("to-compare");
  const theme = document.getElementById("theme");
  const read = () => {
    const [path, query] = location.hash.replace(/^#/, "").split("?");
    return { path: path || "/", state: new URLSearchParams(query || "") };
  };
  const address = (path, state) => {
    const kept = new URLSearchParams([...state].filter(([, value]) => value));
    const query = kept.toString().replace(/%2C/g, ",");
    return `#${path}${query ? `?${query}` : ""}`;
  };
  let picked = [];
  let index = new URLSearchParams();
  const told = () => {
    compare.textContent = `Compare (${picked.length})`;
    compare.href = `#/compare${picked.length ? `?pick=${picked.join(",")}` : ""}`;
    const state = new URLSearchParams(index);
    state.set("pick", picked.join(","));
    document.getElementById("home").href = address("/", state);
  };
  const replace = (path, state) => { history.replaceState(null, "", address(path, state)); };

  const change = (key, value) => {
    const { path, state } = read();
    const kept = key === null ? new URLSearchParams(picked.length ? { pick: picked.join(",") } : {}) : state;
    if (key !== null) kept.set(key, value);
    if (key !== "from") kept.delete("from");
    replace(path, kept);
    if (path !== "/") { show(); return; }
    index = kept;
    told();
    if (key === null) { show(); return; }
    const focused = document.activeElement?.dataset?.sort;
    kvsim.again(kept);
    if (focused) document.querySelector(`[data-sort="${focused}"]`)?.focus();
  };
  const choose = (id, on) => {
    picked = on ? [...picked, id] : picked.filter((each) => each !== id);
    const { state } = read();
    state.set("pick", picked.join(","));
    replace("/", state);
    index = state;
    told();
  };
  let turn = 0;
  const show = async () => {
    const mine = ++turn;
    const { path, state } = read();
    if (state.has("pick")) picked = state.get("pick").split(",").filter((id) => kvsim.byId.has(id));
    if (path === "/") index = state;
    told();
    document.documentElement.removeAttribute("data-drawn");
    let content;
    try {
      const found = /^\/a\/(.+)$/.exec(path);
      if (found) content = await kvsim.artefactPage(found[1], state, change);
      else if (path === "/compare") content = await kvsim.comparePage(picked);
      else if (path === "/") content = kvsim.indexPage(state, change, choose);
      else throw new Error(`there is no page ${path}`);
    } catch (error) {
      content = [kvsim.el("h1", {}, "Not here"), kvsim.el("p", { role: "alert" }, `${error.message}. `, kvsim.el("a", { href: "#/" }, "All results"))];
    }
    if (mine !== turn) return;
    main.replaceChildren(...content.filter(Boolean));
    document.title = `${main.querySelector("h1").textContent} \u00b7 kvsim explore`;
    await kvsim.draw();
    performance.measure("shown");
  };
  const dress = (value) => {
    if (value) document.documentElement.setAttribute("data-theme", value);
    else document.documentElement.removeAttribute("data-theme");
  };
  try { theme.value = localStorage.getItem("kvsim-theme") || ""; } catch { theme.value = ""; }
  dress(theme.value);
  theme.addEventListener("change", () => {
    dress(theme.value);
    try { localStorage.setItem("kvsim-theme", theme.value); } catch { /* a browser that keeps nothing */ }
  });
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
  window.addEventListener("hashchange", async () => { await show(); window.scrollTo(0, 0); main.focus({ preventScroll: true }); });
  kvsim.unpack();
  document.getElementById("footer").textContent = `kvsim ${kvsim.index.version}`;
  show();
})();
