// The panel of multiple choice: asks POST /v1/choices, and shows the probability of each choice, emergency advice first.
// The service has it only with a model that chooses. Texts only ever become text nodes.

import { at, bar, sender, tell } from "./panel.js";

const UNTRAINED = "The model was not trained to choose: how likely it finds the words of each choice decides.";
const CONTEXT_CUT = "The context is too long for the model: its end was not read.";
const QUESTION_CUT = "The question is too long for the model: its beginning was not read.";
let connection = null; // of page.js, once the panel is shown
let limits = {};

/** Shows the panel if the service has a model that chooses. */
export function showChoices(info, pageConnection) {
  at("exam").hidden = !info.choices;
  at("exam_several_line").hidden = !info.choices_several;
  [connection, limits] = [pageConnection, info];
}

const send = sender("v1/choices", (words) => problem(words));

/** Says what is wrong, and marks the box that it is about, if any. */
function problem(words, box) {
  at("exam_problem").textContent = words;
  for (const other of at("exam_form").querySelectorAll("textarea")) other.setAttribute("aria-invalid", other === box);
  box?.focus();
}

function read() {
  const [question, context, lines] = ["exam_question", "exam_context", "exam_lines"].map((id) => at(id).value);
  const choices = lines.split("\n").map((line) => line.trim()).filter(Boolean);
  const several = !at("exam_several_line").hidden && at("exam_several").checked;
  return { question: question.trim(), context: context.trim(), choices, several };
}

/** Returns what is wrong with a question, and its box; null if nothing is. */
function fault({ question, context, choices }) {
  const { max_question_chars: most, max_text_chars: mostContext, max_choices: mostChoices } = limits;
  const tooLong = (text, limit) => [...text].length > limit; // an emoji is one character
  if (!question) return ["Write the question first.", "exam_question"];
  if (tooLong(question, most)) return [`The question is too long; this service reads at most ${most} characters.`, "exam_question"];
  if (tooLong(context, mostContext)) {
    return [`The context is too long; this service reads at most ${mostContext} characters.`, "exam_context"];
  }
  if (new Set(choices).size < choices.length) return ["Two choices are the same.", "exam_lines"];
  if (choices.length < 2) return ["Write two or more choices, each on a line of its own.", "exam_lines"];
  if (choices.length > mostChoices) {
    return [`There are ${choices.length} choices; this service reads at most ${mostChoices}.`, "exam_lines"];
  }
  if (choices.some((choice) => tooLong(choice, most))) return [`A choice has more than ${most} characters.`, "exam_lines"];
  return null;
}

async function choose() {
  const asked = read();
  const wrong = fault(asked);
  if (wrong) return problem(wrong[0], at(wrong[1]));
  problem("");
  at("chosen").hidden = true; // what was said of another question
  const result = await send(connection, asked, at("exam_submit"));
  if (result) show(result);
}

function show(result) {
  at("chosen").hidden = false; // a live region is heard when its text changes while it stands
  tell("exam_emergency", result.emergency);
  at("exam_summary").textContent = `Chosen: ${result.chosen.join("; ")}`;
  at("exam_choices").replaceChildren(...result.choices.map(line));
  const notes = [
    !result.trained && UNTRAINED, result.context_shortened && CONTEXT_CUT, result.question_shortened && QUESTION_CUT,
  ];
  tell("exam_note", notes.filter(Boolean).join(" "));
  at("exam_disclaimer").textContent = result.disclaimer;
}

function line({ choice, probability, chosen }) {
  const item = bar(choice, probability);
  if (!chosen) return item;
  item.classList.add("chosen");
  item.querySelector(".name").append(Object.assign(document.createElement("span"), { className: "unseen", textContent: " (chosen)" }));
  return item;
}

at("exam_form").addEventListener("submit", (event) => {
  event.preventDefault();
  choose();
});
at("exam_form").addEventListener("input", () => problem(""));
