// A damaged template is one that can be used, or is refused by one typed error of one line; so is each conversation.
import { expect, test } from "bun:test";
import { LockstepError } from "@lockstep/tensor";
import { RandomStream } from "../../../../tests/random.ts";
import { ChatTemplate } from "./chat-template.ts";

const WHOLE = `{{- bos_token }}{# a comment #}
{%- set ns = namespace(last=messages|length - 1, seen=[]) %}
{%- macro turn(role, text='') -%}
<|{{ role }}|>{{ text | trim | replace('\\n', ' ') }}{{ caller() if caller else '' }}
{%- endmacro %}
{% for message in messages if message.role != 'system' %}
  {%- if message.role == 'user' and loop.index0 < 3 or not loop.first %}{{ turn(message.role, message['content'][0:]) }}
  {%- elif message.content is defined %}
    {%- call turn('x') %}{{ message.content.split('</t>')[-1].lstrip('\\n') }}{% endcall %}
  {%- else %}{{ raise_exception('none ' ~ message.role) }}{% endif %}
  {%- set ns.seen = ns.seen + [message.role] %}
{% endfor %}
{%- for key, value in {'a': 1, "b": [2.5, none]}.items() %}{{ key ~ value|tojson(indent=2) }}{% endfor %}
{{ messages | map(attribute='role') | list | join(', ') }}
{%- if add_generation_prompt %}{{ strftime_now('%d %b') }}{% endif %}`;

const PIECES = (
  "{{ }} {% %} {%- -%} {# #} ( ) [ ] { } ' \" | . , : = == + - * ** / // % ~ in not and or is if else elif endif for " +
  "endfor set endset macro endmacro call endcall filter endfilter break continue generation endgeneration messages " +
  "message loop ns range namespace caller raise_exception none true 0 -1 1e9 99999999999 \\ \\x4 " +
  "\\u00e9 \uD83D 😀 \u0000"
).split(" ");

test("templates with pieces gone, doubled, moved, or others in their place", () => {
  const talk = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hi\nthere" },
    { role: "assistant", content: "<t>hm</t>\n\nHello" },
  ];
  const now = new Date(2024, 0, 2);
  const tokens = WHOLE.match(/\w+|\s+|[^\w\s]{1,2}/g) ?? [];
  const ends = { opened: 0, refused: 0, rendered: 0, failed: 0 };
  for (let seed = 0; seed < 1000; seed++) {
    const random = new RandomStream(seed);
    const parts = [...tokens];
    for (let count = random.below(4); count >= 0; count--) {
      const at = random.below(parts.length);
      const other = parts[random.below(parts.length)] ?? "";
      const piece = PIECES[random.below(PIECES.length)] ?? "";
      const gone = random.below(3);
      parts.splice(at, gone, ...(random.next() < 0.3 ? [] : [random.next() < 0.5 ? other : piece]));
    }
    const text = parts.join("");
    try {
      const template = ChatTemplate.open({ "chat_template.jinja": new TextEncoder().encode(text) });
      ends.opened++;
      template?.render(talk, { now });
      ends.rendered++;
    } catch (error) {
      if (!(error instanceof LockstepError)) throw new Error(`seed ${seed}: ${text}`, { cause: error });
      expect(error.message).toMatch(/^.{10,1300}$/);
      const isOfTemplate = error.name === "ModelError";
      ends[isOfTemplate ? "refused" : "failed"]++;
      const [, refusedIn] = / in line (\d+)\.$/.exec(error.message) ?? [];
      const [, failedIn] = /^the chat template: in line (\d+), /.exec(error.message) ?? [];
      const line = isOfTemplate ? refusedIn : failedIn;
      if (line === undefined) expect(error.message).toStartWith("the chat template: it refuses the messages: ");
      else expect([...Array(text.split("\n").length).keys()]).toContain(Number(line) - 1);
    }
  }
  for (const count of Object.values(ends)) expect(count).toBeGreaterThan(15);
}, 120_000);
