// The page's side of service-worker.js: kept for when there is no network.

const CONTROL_MS = 15_000; // the shell is small; who is slower goes on without for now

// Install the service worker, and wait until it answers for this page, so that what is fetched from
// now on is kept. Gives why it does not, empty where it does.
export async function control(updated) {
  if (!("serviceWorker" in navigator)) return "this browser has no service workers";
  const { serviceWorker } = navigator;
  try {
    const registration = await serviceWorker.register("service-worker.js", {
      updateViaCache: "none",
    });
    watch(registration, updated);
    if (serviceWorker.controller !== null) return "";
    const started = registration.installing ?? registration.waiting ?? registration.active;
    await new Promise((resolve, reject) => {
      serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      started.addEventListener("statechange", () => {
        if (started.state === "redundant") reject(new Error("a file of the page was changed"));
      });
      setTimeout(() => reject(new Error("it takes long to install")), CONTROL_MS);
    });
    return "";
  } catch (error) {
    return error.message;
  }
}

// Tell of a newer release that waits until it is asked for.
function watch(registration, updated) {
  const tell = (worker) => {
    if (worker?.state === "installed" && navigator.serviceWorker.controller !== null)
      updated(() => {
        navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
        worker.postMessage("update");
      });
  };
  tell(registration.waiting);
  registration.addEventListener("updatefound", () => {
    const { installing } = registration;
    installing.addEventListener("statechange", () => tell(installing));
  });
}

// Fetch what was not needed yet, through the service worker, which keeps it.
export async function keep(paths) {
  for (const path of paths) {
    const response = await fetch(path.split("/").map(encodeURIComponent).join("/"));
    if (!response.ok) throw new Error(`${path} cannot be fetched`);
    await response.arrayBuffer();
  }
}
