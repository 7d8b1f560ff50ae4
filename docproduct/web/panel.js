// What the page and its panels, of triage and of multiple choice, share.

export const at = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

/**
 * Returns a function that asks a route, and returns its answer; null if there is none, which `problem` says.
 * A new request replaces the one before. The button, if one is given, says that it is under way.
 */
export function sender(path, problem) {
  let running = null; // AbortController of the request under way
  return async ({ request, unreachable, onToken }, body, button) => {
    running?.abort();
    const controller = (running = new AbortController());
    if (button) {
      button.dataset.words ??= button.textContent;
      button.textContent = "Looking ...";
    }
    try {
      return await (await request(path, body, controller.signal)).json();
    } catch (error) {
      if (controller.signal.aborted) return null;
      problem(error.refused ? error.message : unreachable);
      if (error.status === 401) onToken();
      return null;
    } finally {
      if (button && running === controller) button.textContent = button.dataset.words;
    }
  };
}

/** Returns a line of a list: a name, and its probability as a bar and a number. */
export function bar(name, probability) {
  const item = at("bar").content.cloneNode(true).firstElementChild;
  item.querySelector(".name").textContent = name;
  item.querySelector("meter").value = probability;
  item.querySelector(".number").textContent = percent.format(probability);
  return item;
}

/** A live region is heard only when its text changes while it stands, so it is shown first. Without words, it is hidden. */
export function tell(id, words) {
  at(id).hidden = !words;
  if (at(id).textContent !== (words || "")) at(id).textContent = words || "";
}
