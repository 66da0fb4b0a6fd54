/* Search without a server: browsers start no worker from a file, so its script runs in a frame of the page instead. */
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.deliver(data, () => this.onmessage);
      const script = inside.document.createElement("script");
      script.src = url;
      this.ready = new Promise((done, failed) => {
        script.onload = () => done(inside);
        script.onerror = failed;
      });
      this.ready.catch(() => this.onerror?.(new Event("error", { cancelable: true })));
      inside.document.body.append(script);
    }
    postMessage(data) {
      const copy = structuredClone(data);
      this.ready.then((inside) => this.deliver(copy, () => inside.onmessage), () => {});
    }
    deliver(data, receiver) {
      const copy = structuredClone(data);
      setTimeout(() => receiver()?.({ data: copy }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
