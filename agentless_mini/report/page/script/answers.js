// What was asked in one run and what was answered: prompts by stage, each with its samples.

function answersView(instance) {
  const asked = new Map();
  for (const answer of instance.answers) {
    const key = `${answer.stage} ${answer.prompt}`;
    asked.set(key, [...(asked.get(key) ?? []), answer]);
  }
  return [...asked.values()].map((answers) => promptView(instance, answers));
}

function promptView(instance, answers) {
  const [{ stage, prompt }] = answers;
  const messages = instance.prompts[prompt] ?? [];
  return disclosure(
    `${visible(stage)}: ${plural(answers.length, "answer")} to prompt ${visible(prompt).slice(0, 8)}`,
    () => [
      ...messages.map(([role, text]) => disclosure(`prompt: ${visible(role)}`, () => textBlock(text))),
      ...answers.map((answer) => answerView(instance, answer)),
    ],
    { class: "card" },
  );
}

function answerView(instance, { sample, outcome, normal, finish, tokens, reasoning, text }) {
  const at = instance.patches.findIndex((patch) => patch.normal === normal);
  const told = [at < 0 ? "" : `P${at + 1}`, outcome, known(tokens) ? plural(tokens, "token") : "", finish === "stop" ? "" : `ended by ${finish}`];
  return disclosure(`answer ${sample}: ${visible(told.filter(Boolean).join(", "))}`, () => [
    ...(reasoning ? [disclosure("reasoning", () => textBlock(reasoning))] : []),
    textBlock(text),
  ]);
}
