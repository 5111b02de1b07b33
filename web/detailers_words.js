// What the pack's own parts of the editor say, in the editor's language: locales/<language>/main.json
// has it under "detailers", by the English text.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const words = await read();

async function read() {
  try {
    const answer = await api.fetchApi("/i18n");
    return answer.ok ? await answer.json() : {};
  } catch (error) {
    console.warn("Detailers: the translations cannot be read", error);
    return {};
  }
}

const language = () => {
  const settings = app.extensionManager?.setting ?? app.ui?.settings;
  const value = settings?.get?.("Comfy.Locale") ?? settings?.getSettingValue?.("Comfy.Locale");
  return String(value ?? "en");
};

/** A text in the editor's language, with these values in the place of {their names}. */
export function said(english, values = {}) {
  const own = words[language()]?.detailers ?? {};
  const text = own[english] ?? english;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
