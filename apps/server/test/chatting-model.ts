import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of the demo's model. */
export const DEMO_MODEL = fileURLToPath(new URL("../../demo/model", import.meta.url));

const TEMPLATE =
  "{% for m in messages %}{% if m.role == 'nobody' %}{{ raise_exception('there is no nobody') }}{% endif %}" +
  "<{{ m.role }}>{{ m.content }}{% endfor %}";

/** A folder with the demo's model and a chat template, which makes `<user>Who?` of a question. Gone when disposed. */
export function chattingModel(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "lockstep-chatting-"));
  for (const file of ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]) {
    cpSync(join(DEMO_MODEL, file), join(path, file));
  }
  symlinkSync(join(DEMO_MODEL, "model.safetensors"), join(path, "model.safetensors"));
  writeFileSync(join(path, "chat_template.jinja"), TEMPLATE);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}
