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

/** Yields [event, data] of a text/event-stream. The decoder keeps characters whole that a chunk's border cuts. */
export async function* readEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return; // what has no blank line behind it is not a whole event
      // JSON escapes carriage returns: those left are line ends, whose \n may come with the next chunk.
      buffer += decoder.decode(value, { stream: true }).replaceAll("\r", "");
      const blocks = buffer.split("\n\n");
      buffer = blocks.pop();
      for (const block of blocks) {
        // Not by a regular expression: for it, U+2028 in a text would end a line, too.
        const field = (name) => block.split("\n").filter((line) => line.startsWith(`${name}: `));
        const [event, data] = [field("event"), field("data")].map((lines) => lines[0]?.replace(/^\w+: /, ""));
        if (data && data !== "[DONE]") yield [event ?? "message", JSON.parse(data)]; // [DONE] ends a stream of OpenAI's
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have failed already
  }
}

/** Returns what a source is called: its question; of a passage, where it stands. */
export const sourceName = ({ question, place }) => place || question;

/**
 * Returns a sentence without the citations of the machine, and behind it a doubt, or buttons for the sources that support
 * it, which call `open` with the number of the source. `sources` are all sources of the answer.
 */
export function sentenceParts(sentence, open, sources) {
  const [, body, blanks] = sentence.text.replace(/\s?\[\d+(?:\s*[,;–-]\s*\d+)*\]/gu, "").match(/^(.*?)(\s*)$/su);
  const part = (className, textContent) => Object.assign(document.createElement("span"), { className, textContent });
  const doubtful = sentence.checkable && !sentence.supported;
  const parts = [part(doubtful ? "sentence doubtful" : "sentence", body)];
  if (doubtful) parts.push(part("doubt", sentence.reason));
  else if (sentence.supported) parts.push(...sentence.sources.map((number) => citation(number, open, sources[number - 1])));
  return [...parts, blanks];
}

function citation(number, open, source) {
  const button = Object.assign(document.createElement("button"), {
    type: "button", className: "cite", textContent: number, title: source ? sourceName(source) : "Show this source",
  });
  button.setAttribute("aria-label", `Show source ${number}`);
  button.addEventListener("click", () => open(number));
  return button;
}
