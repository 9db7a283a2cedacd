import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ArgumentError } from "@lockstep/tensor";
import { ChatTemplateError, ModelError } from "../errors.ts";
import type { ChatMessage } from "./chat-message.ts";
import { ChatTemplate } from "./chat-template.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-chat-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The template of a model with these files. */
function open(files: Readonly<Record<string, unknown>>): ChatTemplate | undefined {
  const bytes = Object.entries(files).map(([name, content]): [string, Uint8Array] => [
    name,
    new TextEncoder().encode(typeof content === "string" ? content : JSON.stringify(content)),
  ]);
  return ChatTemplate.open(Object.fromEntries([["config.json", new Uint8Array()], ...bytes]));
}

function opened(text: string, config: object = {}): ChatTemplate {
  const template = open({ "tokenizer_config.json": { ...config, chat_template: text } });
  if (template === undefined) throw new Error("no template");
  return template;
}

const user = (content: string): ChatMessage => ({ role: "user", content });
const system = (content: string): ChatMessage => ({ role: "system", content });
const assistant = (content: string): ChatMessage => ({ role: "assistant", content });
const TALK = [system("Be brief."), user(" Hi! "), assistant("Hello."), user("Bye.")];

const LLAMA_3 = `{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{%- set date = strftime_now("%d %b %Y") if strftime_now is defined else "" %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date + "\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if tools is not none %}{{ raise_exception('no tools here') }}{% endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
`;
const CHATML = `{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}`;
const QWEN = `{%- if messages[0].role != 'system' %}<|im_start|>system\nHelp.<|im_end|>\n{% endif -%}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages %}
  {%- set content = message.content %}
  {%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}
    {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
  {%- endif %}
  {{- '<|im_start|>' ~ message.role ~ '\\n' ~ content ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`;
const MISTRAL = `{{ bos_token }}{% for message in messages %}
{%- if message.role == 'user' %}[INST] {{ message.content }} [/INST]
{%- elif message.role == 'assistant' %} {{ message.content }}{{ eos_token }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported, not ' + message.role + '!') }}
{%- endif %}{% endfor %}`;
const GEMMA = `{{ bos_token }}{% macro turn(role, text) %}<start_of_turn>{{ role }}
{{ text | trim }}<end_of_turn>
{% endmacro %}{% for m in messages if m.role != 'system' %}
{{ turn('model' if m.role == 'assistant' else m.role, m.content) }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}`;

describe("templates like those of known models", () => {
  const tokens = { bos_token: { content: "<s>", special: true }, eos_token: "</s>", pad_token: null };
  test("Llama 3", () => {
    const template = opened(LLAMA_3, { ...tokens, bos_token: "<|begin|>" });
    const now = new Date(2024, 6, 4, 15, 30);
    expect(template.render(TALK, { now })).toBe(
      "<|begin|><|start_header_id|>system<|end_header_id|>\n\nToday: 04 Jul 2024\nBe brief.<|eot_id|>" +
        "<|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|>" +
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>" +
        "<|start_header_id|>user<|end_header_id|>\n\nBye.<|eot_id|>" +
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    );
  });
  test("ChatML", () => {
    expect(opened(CHATML).render([user("Hi"), assistant("Yes?")])).toBe(
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>assistant\n",
    );
    expect(opened(CHATML).render([user("Hi")], { addGenerationPrompt: false })).toBe(
      "<|im_start|>user\nHi<|im_end|>\n",
    );
  });
  test("Qwen", () => {
    const talk = [user("Hi"), assistant("<think>\nhm\n</think>\n\n  Hello."), user("Bye")];
    expect(opened(QWEN).render(talk)).toBe(
      "<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n" +
        "<|im_start|>assistant\n  Hello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    );
  });
  test("Mistral, which takes no system message", () => {
    const template = opened(MISTRAL, tokens);
    expect(template.render(TALK.slice(1))).toBe("<s>[INST]  Hi!  [/INST] Hello.</s>[INST] Bye. [/INST]");
    expect(() => template.render(TALK)).toThrow(ChatTemplateError);
    expect(() => template.render(TALK)).toThrow(
      "it refuses the messages: Only user and assistant roles are supported, not system!",
    );
  });
  test("Gemma", () => {
    expect(opened(GEMMA, tokens).render(TALK)).toBe(
      "<s><start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n" +
        "<start_of_turn>user\nBye.<end_of_turn>\n<start_of_turn>model\n",
    );
  });
});

describe("where a template is", () => {
  const render = (files: Readonly<Record<string, unknown>>) => open(files)?.render([user("x")]);
  test("nowhere", () => {
    expect(open({})).toBeUndefined();
    expect(open({ "tokenizer_config.json": { chat_template: null }, "chat_template.json": {} })).toBeUndefined();
  });
  test("a file of its own comes before tokenizer_config.json, which comes before chat_template.json", () => {
    const json = { "chat_template.json": { chat_template: "c" } };
    const config = { "tokenizer_config.json": { chat_template: "b" } };
    expect(render(json)).toBe("c");
    expect(render({ ...json, ...config })).toBe("b");
    expect(render({ ...json, ...config, "chat_template.jinja": "a" })).toBe("a");
  });
  test("the one named default of several", () => {
    const named = (name: string) => ({ name, template: `${name} {{ messages|length }}` });
    expect(render({ "tokenizer_config.json": { chat_template: [named("rag"), named("default")] } })).toBe("default 1");
    const without = { "tokenizer_config.json": { chat_template: [named("rag")] } };
    expect(() => open(without)).toThrow("tokenizer_config.json: expected chat_template to be a text, or a list with");
  });
  test("a folder on disk", () => {
    writeFileSync(join(folder, "chat_template.jinja"), "{{ messages[0].content }}!");
    expect(ChatTemplate.open(folder)?.render([user("x")])).toBe("x!");
  });
  test.each([[5], [true], [{}], [[]], [[{ name: "default" }]], [[null]]])("%p is none", (value) => {
    expect(() => open({ "tokenizer_config.json": { chat_template: value } })).toThrow(ModelError);
  });
  test("special tokens that are none", () => {
    expect(() => opened("x", { bos_token: 5 })).toThrow("bos_token to be a text, or an object with its content");
    expect(() => opened("x", { eos_token: { content: 1 } })).toThrow("eos_token to be a text");
  });
});

describe("a template that is none, or names what there is not, is refused with its line", () => {
  const before = `{# a comment
of two lines #}
{%- set text = 'a\\'b
c' -%}
{% generation %}{{ text }}{% endgeneration %}

`;
  test.each([
    ["{{ messages | frobnicate }}", 'an unknown filter "frobnicate"'],
    ["{% filter shout %}x{% endfilter %}", 'an unknown filter "shout"'],
    ["{{ messages | map('upper') | count }}", 'an unknown filter "count"'],
    ["{% if text is sameas %}{% endif %}", 'an unknown test "sameas"'],
    ["{{ messages | selectattr('role', 'startswith', 'u') | list }}", 'an unknown test "startswith"'],
    ["{{ joiner(', ') }}", 'an unknown function "joiner"'],
    ["{{ text.format(1) }}", 'an unknown method "format"'],
    ["{% for m in messages %}{{ loop.cycle('a', 'b') }}{% endfor %}", 'an unknown method "cycle"'],
    ["{% include 'other' %}", "Unknown statement type: include"],
    ["{% raw %}{% endraw %}", "Unknown statement type: raw"],
    ["{{ 1 ? 2 }}", "Unexpected character: ?"],
    ["{{ messages[0 }}", "Unexpected token: CloseExpression"],
    ["{% for x messages %}{% endfor %}", "Expected `in` keyword"],
    ["{{ 'never ends }}", "Unexpected end of input"],
    ["{# never ends", "Missing end of comment tag"],
    ["{% else %}", "Unknown statement type: else"],
  ])("%s", (line, problem) => {
    const place = `tokenizer_config.json: expected a chat template that can be used, but found ${problem}`;
    for (const after of ["", "\n\n{{ text }}\n"]) {
      let message = "";
      try {
        opened(`${before}${line}${after}`);
      } catch (error) {
        expect(error).toBeInstanceOf(ModelError);
        message = error instanceof Error ? error.message : "";
      }
      expect(message).toStartWith(place);
      expect(message).toEndWith(" in line 7.");
    }
  });
  test.each(["{% if true %}\n\n", "{% for m in messages %}\n", "{{ messages", "{% set x %}"])(
    "%j ends early",
    (text) => {
      expect(() => opened(`\n${text}`)).toThrow(
        /(an end where more was to come|Unexpected end of input) in line [23]\./,
      );
    },
  );
  test("names of its own are known", () => {
    const own = `{% macro shout(text, f) %}{{ f(text) }}!{% endmacro %}{% macro up(t) %}{{ t|upper }}{% endmacro %}
{%- set ns = namespace(call=up) %}{{ shout('a', up) }}{{ ns.call('b') }}
{%- macro twice() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call twice() %}x{% endcall %}`;
    expect(opened(own).render([user("x")])).toBe("A!Bxx");
  });
  test("all that is known is there", () => {
    const texts =
      "'a'|capitalize 'a'|first 'a'|float 'a'|indent 'a'|int 'a'|join 'a'|length 'a'|lower 'a'|replace('a','b')";
    const more =
      "'a'|safe 'a'|string 'a'|title 'a'|tojson 'a'|trim 'a'|upper 1|abs true|bool x|default('d') {'a':1}|dictsort";
    const lists =
      "{'a':1}|items {'a':1}|keys {'a':1}|values {'a':1}|get('a') [1]|last [1]|list [1]|reverse [1]|sort [1]|unique";
    const chosen = "messages|map(attribute='role') messages|selectattr('role') messages|rejectattr('role','eq','user')";
    for (const expression of `${texts} ${more} ${lists} ${chosen}`.split(" ").filter((each) => each !== "'a'|first")) {
      expect(opened(`{{ ${expression} }}`).render([user("x")])).toBeString();
    }
    const tests = "boolean callable defined even false integer iterable lower mapping none number odd sequence";
    for (const name of `${tests} string true undefined upper`.split(" ")) {
      expect(opened(`{{ 1 is ${name} }}`).render([user("x")])).toMatch(/^(true|false)$/);
    }
  });
  test("too long, too deep, too much white space", () => {
    expect(() => opened("x".repeat(2 ** 18 + 1))).toThrow("262145 characters, more than 262144");
    expect(opened("x".repeat(2 ** 18)).render([user("x")])).toHaveLength(2 ** 18);
    expect(() => opened(`x\n${" ".repeat(1025)}{{ 1 }}`)).toThrow("more than 1024 white spaces in a row in line 1.");
    expect(() => opened(`{{ ${"(".repeat(100_000)} }}`)).toThrow(ModelError);
    for (const terms of [1000, 100_000]) {
      const long = `{{ 1 }}\n{{ 1${"+1".repeat(terms)} }}`;
      expect(() => opened(long)).toThrow("an expression nested too deeply in line 2.");
    }
    expect(opened(`{{ 1${"+1".repeat(400)} }}`).render([user("x")])).toBe("401");
  }, 60_000);
});

describe("a template that fails is refused with its line", () => {
  test.each([
    ["{{ messages[0].content.items() }}", "Cannot call something that is not a function"],
    ["{{ 1 + none }}", "Cannot perform operation on null values"],
    ["{{ messages[0].content | items }}", "Unknown StringValue filter: items"],
    ["{{ strftime_now('%Q') }}", "strftime_now knows no %Q"],
    ["{{ messages | selectattr('role', 'odd') }}", "cannot odd on StringValue"],
    ["{{ 1 is eq }}", "a filter, test or function cannot take what it is given"],
    ["{{ range(1.5) }}", "range takes one to three whole numbers"],
    ["{{ messages | sort }}", "Cannot compare"],
  ])("%s", (line, problem) => {
    const template = opened(`{% set x = 1 %}\n{% if x %}\n  {{ x }}\n${line}\n{{ x }}\n{% endif %}`);
    expect(() => template.render([user("x"), user("y")])).toThrow(ChatTemplateError);
    expect(() => template.render([user("x"), user("y")])).toThrow(`the chat template: in line 4, ${problem}`);
  });
  test("the line of what failed within loops, macros and conditions that were left", () => {
    const text = `{% macro m(x) %}\n{{ x + 1 }}\n{% endmacro %}
{% for i in range(3) %}{% if i == 0 %}{% continue %}{% endif %}
{% if i == 2 %}{% break %}{% endif %}{% endfor %}
{{ m(1) }}
{{ m(none) }}`;
    expect(() => opened(text).render([user("x")])).toThrow("in line 2, Cannot perform operation on null values");
  });
});

describe("no template takes more than there is, or sees more than it may", () => {
  const refuses = (text: string, problem: string) => {
    const template = opened(text);
    expect(() => template.render([user("x".repeat(9999))])).toThrow(ChatTemplateError);
    expect(() => template.render([user("x".repeat(9999))])).toThrow(problem);
  };
  test.each([
    ["{{ range(10 ** 9) }}", "range of 1000000000 numbers"],
    ["{% for a in range(65536) %}{% for b in range(65536) %}{% endfor %}{% endfor %}", "more than 1048576 steps"],
    ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself without end"],
    [
      "{% set n = namespace(s='xx') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
      "2097152 characters",
    ],
    ["{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}", "1048576 steps"],
    [
      "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
      "2097152",
    ],
    ["{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}", "characters"],
    ["{{ 'a\\nb' | indent(1000000000) }}", "indent with more than 64 spaces"],
    ["{{ {'a': 1} | tojson(indent=1000000000) }}", "tojson with more than 64 spaces"],
    ["{% set t = messages[0].content %}{{ t.replace('', t) }}", "replace makes a text that is too long"],
    ["{% set t = messages[0].content %}{% set f = t['replace'] %}{{ f('', t) }}", "too long"],
    ["{% set t = messages[0].content %}{{ t | replace('', t) }}", "too long"],
    ["{% set t = messages[0].content %}{{ t | join(t) }}", "too long"],
    ["{% for a in range(60000) %}{% set u = messages[0].content | upper %}{% endfor %}", "in all"],
  ])("%s", refuses, 60_000);

  test("objects of JavaScript are out of reach", () => {
    const names = ["__proto__", "constructor", "prototype", "toString", "__defineGetter__", "valueOf"];
    for (const name of names) {
      for (const object of [
        "messages",
        "messages[0]",
        "messages[0].content",
        "range",
        "1",
        "{}",
        "namespace()",
        "loop",
      ]) {
        expect(opened(`{{ ${object}['${name}'] is undefined }}`).render([user("x")])).toBe("true");
        expect(opened(`{{ (${object}).${name} }}`).render([user("x")])).toBe("");
      }
      expect(opened(`{{ ${name} is undefined }}`).render([user("x")])).toBe("true");
    }
    const polluting =
      "{% set n = namespace() %}{% set n.__proto__ = 'p' %}{% set n.constructor = 'c' %}{{ n.constructor }}";
    expect(opened(polluting).render([user("x")])).toBe("c");
    expect(Reflect.get({}, "p")).toBeUndefined();
    const message = JSON.parse('{"role":"user","content":"x","__proto__":{"polluted":1}}');
    expect(opened("{{ messages[0].polluted }}{{ messages[0]|length }}").render([message])).toBe("2");
  });

  test("a long conversation is none of that", () => {
    const talk = Array.from({ length: 2000 }, (_, index) =>
      index % 2 === 0 ? user("question ") : assistant("answer"),
    );
    expect(opened(QWEN).render(talk)).toContain("<|im_start|>assistant\n");
    expect(opened(CHATML).render([user("x".repeat(1_000_000))])).toHaveLength(1_000_050);
  });
});

test("Python's strip takes the characters to strip", () => {
  const render = (expression: string) => opened(`{{ ${expression} }}`).render([user("x")]);
  expect(render("'xx a x'.strip('x')")).toBe(" a ");
  expect(render("'xyaxy'.lstrip('yx') ~ '|' ~ 'xyaxy'.rstrip('yx')")).toBe("axy|xya");
  expect(render("'\\n\\n  a'.lstrip('\\n') ~ '|' ~ ' a '.strip() ~ '|'")).toBe("  a|a|");
  expect(render("'😀a😀'.strip('😀')")).toBe("a");
});

test("dates as Python writes them", () => {
  const now = new Date(2024, 11, 31, 0, 5, 9);
  const text = opened("{{ strftime_now('%a %A %b %B %d %e %m %y %Y %H %I %M %S %p %j %w %%') }}").render([user("x")], {
    now,
  });
  expect(text).toBe("Tue Tuesday Dec December 31 31 12 24 2024 00 12 05 09 AM 366 2 %");
});

describe("what are no messages", () => {
  test.each<[unknown, string]>([
    [undefined, "`messages` must be a list of 1 to 16384 messages"],
    ["hi", "`messages` must be a list"],
    [[], "a list of 0"],
    [Array.from({ length: 16385 }, () => user("x")), "a list of 16385"],
    [[user("x"), null], "`messages[1]` must be a message"],
    [["hi"], "`messages[0]` must be a message"],
    [[[]], "`messages[0]` must be a message"],
    [[{ content: "x" }], "`messages[0].role` must be a text that is not empty"],
    [[user("x"), { role: "", content: "x" }], "`messages[1].role`"],
    [[{ role: "user" }], "`messages[0].content` must be a text"],
    [[{ role: "user", content: [{ type: "text", text: "x" }] }], "`messages[0].content` must be a text"],
  ])("%#: %s", (messages, message) => {
    const template = opened(CHATML);
    const render = () => Reflect.apply(template.render, template, [messages]);
    expect(render).toThrow(ArgumentError);
    expect(render).toThrow(message);
  });
  test("an option that is none", () => {
    const template = opened(CHATML);
    const render = () => Reflect.apply(template.render, template, [[user("x")], { addGenerationPrompt: "no" }]);
    expect(render).toThrow("`addGenerationPrompt` must be true or false");
  });
});
