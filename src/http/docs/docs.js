// Shows /openapi.json and tries its routes. Texts are always set as texts, never as markup.
"use strict";

const STORE = "command-center-access";
const byId = (id) => document.getElementById(id);

/** Makes an element: properties, then children (texts or elements). */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function access() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE)) || {};
  } catch {
    return {};
  }
}

function showAccess() {
  const names = Object.keys(access());
  const button = byId("authorize");
  button.textContent = names.length ? "Authorized" : "Authorize";
  button.title = names.join(", ");
  button.toggleAttribute("data-on", names.length > 0);
}

/** An example value of a schema: its own where it has one, else made from its types. */
function example(schema, root, depth = 0) {
  if (!schema || depth > 8 || schema === true) return null;
  if (schema.$ref) {
    const target = schema.$ref.slice(2).split("/").reduce((at, key) => at && at[key], root);
    return example(target, root, depth + 1);
  }
  if (schema.example !== undefined) return schema.example;
  if (schema.examples && schema.examples.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return example(choices[0], root, depth + 1);
  if (schema.allOf) return example(schema.allOf[0], root, depth + 1);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (schema.properties || type === "object") {
    const made = {};
    for (const [key, inner] of Object.entries(schema.properties || {})) made[key] = example(inner, root, depth + 1);
    const rest = schema.additionalProperties;
    if (rest && typeof rest === "object") made.name = example(rest, root, depth + 1);
    return made;
  }
  if (type === "array") return [example(schema.items, root, depth + 1)];
  return { integer: 0, number: 0, boolean: false, string: "string" }[type] ?? null;
}

function input(param) {
  const schema = param.schema || {};
  if (schema.enum) {
    const blank = param.required ? [] : [make("option", { value: "" }, "")];
    return make("select", {}, ...blank, ...schema.enum.map((value) => make("option", { value }, value)));
  }
  const field = make("input", { autocomplete: "off", required: param.required, spellcheck: false });
  const hint = schema.example ?? (schema.examples || [])[0] ?? schema.default;
  if (hint !== undefined) field.placeholder = String(hint);
  return field;
}

function constraint(schema) {
  const said = [];
  if (schema.type) said.push([].concat(schema.type).join(" or "));
  if (schema.minimum !== undefined) said.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) said.push(`to ${schema.maximum}`);
  if (schema.default !== undefined) said.push(`default ${schema.default}`);
  if (schema.pattern) said.push(`matches ${schema.pattern}`);
  return said.join(", ");
}

function parameters(operation, id) {
  const fields = [];
  const list = make("div");
  for (const param of operation.parameters || []) {
    const field = input(param);
    field.id = `${id}-${param.in}-${param.name}`;
    fields.push({ param, field });
    const mark = param.required ? " (required)" : "";
    list.append(make("div", { className: "field" },
      make("label", { htmlFor: field.id }, param.name, make("small", {}, ` ${param.in}${mark}`)), field,
      make("p", { className: "hint" }, `${param.description} ${constraint(param.schema || {})}`)));
  }
  return { fields, list };
}

/** The request that the fields describe; throws a text when one is missing. */
function request(verb, path, fields, body) {
  const headers = new Headers();
  for (const [name, value] of Object.entries(access())) headers.set(name, value);
  const query = new URLSearchParams();
  let filled = path;
  for (const { param, field } of fields) {
    const value = field.value.trim();
    if (!value && param.required) throw new Error(`${param.name} is needed`);
    if (param.in === "path") filled = filled.replace(`{${param.name}}`, encodeURIComponent(value));
    else if (!value) continue;
    else if (param.in === "query") query.set(param.name, value);
    else headers.set(param.name, value);
  }
  const options = { method: verb.toUpperCase(), headers, cache: "no-store" };
  if (body && body.value.trim()) {
    options.body = body.value;
    headers.set("content-type", "application/json");
  }
  const search = query.toString();
  return { address: filled + (search ? `?${search}` : ""), options };
}

async function send(verb, path, fields, body, output) {
  let asked;
  output.replaceChildren(make("p", { className: "soft" }, "Sending…"));
  try {
    asked = request(verb, path, fields, body);
    const started = performance.now();
    const response = await fetch(asked.address, asked.options);
    let text = await response.text();
    const took = Math.round(performance.now() - started);
    if ((response.headers.get("content-type") || "").includes("json")) {
      try {
        text = JSON.stringify(JSON.parse(text), null, 2);
      } catch { /* shown as it came */ }
    }
    if (text.length > 200000) text = `${text.slice(0, 200000)}\n… ${text.length} characters in all`;
    const head = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    output.replaceChildren(
      make("p", { className: response.ok ? "good" : "bad" },
        `${response.status} ${response.statusText} in ${took} ms · ${asked.options.method} ${asked.address}`),
      make("details", {}, make("summary", {}, "Headers"), make("pre", { tabIndex: 0 }, head)),
      make("pre", { tabIndex: 0 }, text || "(no body)"));
  } catch (error) {
    output.replaceChildren(make("p", { className: "bad" }, String(error.message || error)));
  }
}

function responses(operation, root) {
  const list = make("div");
  for (const [status, answer] of Object.entries(operation.responses || {})) {
    list.append(make("h4", {}, make("span", { className: Number(status) < 400 ? "good" : "bad" }, status),
      ` ${answer.description}`));
    for (const [media, content] of Object.entries(answer.content || {})) {
      if (Number(status) >= 400) continue;
      const shown = media.includes("json") ? JSON.stringify(example(content.schema, root), null, 2) : null;
      list.append(make("details", {}, make("summary", {}, media),
        ...(shown ? [make("pre", { tabIndex: 0 }, shown)] : []),
        make("details", {}, make("summary", {}, "Schema"),
          make("pre", { tabIndex: 0 }, JSON.stringify(resolve(content.schema, root), null, 2)))));
    }
  }
  return list;
}

/** A schema with its first reference followed, as deep as a reader wants. */
function resolve(schema, root) {
  if (!schema || !schema.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((at, key) => at && at[key], root);
}

/** Fills an operation's inside when it is opened for the first time. */
function fill(inside, verb, path, operation, root) {
  const { fields, list } = parameters(operation, operation.operationId);
  inside.append(make("p", {}, operation.description));
  if (fields.length) inside.append(make("h3", {}, "Parameters"), list);
  let body = null;
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  if (content) {
    const id = `${operation.operationId}-body`;
    body = make("textarea", { id, rows: 6, spellcheck: false });
    body.value = JSON.stringify(content.example ?? example(content.schema, root), null, 2);
    inside.append(make("h3", {}, make("label", { htmlFor: id }, "Body"),
      operation.requestBody.required ? "" : make("small", { className: "soft" }, " (may be empty)")), body,
      make("details", {}, make("summary", {}, "Schema"),
        make("pre", { tabIndex: 0 }, JSON.stringify(resolve(content.schema, root), null, 2))));
  }
  const output = make("div", { role: "status", "aria-live": "polite" });
  const button = make("button", { type: "button", className: "primary" }, "Send");
  button.addEventListener("click", async () => {
    button.disabled = true;
    await send(verb, path, fields, body, output);
    button.disabled = false;
    button.focus();
  });
  inside.append(make("p", { className: "row" }, button), output,
    make("h3", {}, "Answers"), responses(operation, root));
}

function show(root) {
  byId("version").textContent = root.info.version;
  byId("about").textContent = root.info.description.replaceAll("`", "");
  const entries = [];
  for (const tag of root.tags) {
    const section = make("section", {}, make("h2", {}, tag.name), make("p", { className: "soft" }, tag.description));
    const links = make("ul");
    const heading = make("h2", {}, tag.name);
    for (const [path, item] of Object.entries(root.paths)) {
      for (const [verb, operation] of Object.entries(item)) {
        if (operation.tags[0] !== tag.name) continue;
        const id = operation.operationId;
        const inside = make("div", { className: "inside" });
        const block = make("details", { className: "operation", id },
          make("summary", {}, make("span", { className: `verb ${verb}` }, verb), make("span", { className: "path" }, path),
            make("span", {}, operation.summary), make("span", { className: "role" }, operation["x-role"] || "public")),
          inside);
        block.addEventListener("toggle", () => {
          if (block.open && !inside.childElementCount) fill(inside, verb, path, operation, root);
        });
        const link = make("li", {}, make("a", { href: `#${id}` }, operation.summary));
        const words = `${verb} ${path} ${operation.summary} ${operation.description} ${tag.name}`.toLowerCase();
        entries.push({ block, link, words, section, heading });
        section.append(block);
        links.append(link);
      }
    }
    if (!links.childElementCount) continue;
    byId("operations").append(section);
    byId("contents").append(heading, links);
  }
  return entries;
}

function search(entries) {
  const wanted = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = new Set();
  for (const { block, link, words, section, heading } of entries) {
    const fits = wanted.every((word) => words.includes(word));
    block.hidden = link.hidden = !fits;
    if (fits) shown.add(section).add(heading);
  }
  for (const { section, heading } of entries) {
    section.hidden = !shown.has(section);
    heading.hidden = !shown.has(heading);
  }
  byId("state").textContent = shown.size ? "" : "No operation fits the search.";
}

function openNamed() {
  const named = byId(decodeURIComponent(location.hash.slice(1)));
  if (!named || !named.classList.contains("operation")) return;
  named.open = true;
  named.scrollIntoView();
  named.querySelector("summary").focus({ preventScroll: true });
}

function bindAccess(root) {
  const dialog = byId("access");
  const form = byId("access-form");
  for (const scheme of Object.values(root.components.securitySchemes)) {
    if (scheme.in !== "header") continue;
    byId("schemes").append(make("label", {}, scheme.name,
      make("small", {}, scheme.description.replaceAll("`", "")), make("input", { name: scheme.name, autocomplete: "off" })));
  }
  byId("authorize").addEventListener("click", () => {
    const kept = access();
    for (const field of form.querySelectorAll("input")) field.value = kept[field.name] || "";
    dialog.showModal();
  });
  form.addEventListener("submit", () => {
    const kept = {};
    for (const field of form.querySelectorAll("input")) if (field.value.trim()) kept[field.name] = field.value.trim();
    sessionStorage.setItem(STORE, JSON.stringify(kept));
    showAccess();
  });
  byId("forget").addEventListener("click", () => {
    sessionStorage.removeItem(STORE);
    showAccess();
    dialog.close();
  });
  byId("cancel").addEventListener("click", () => dialog.close());
}

async function start() {
  showAccess();
  try {
    const response = await fetch("/openapi.json");
    if (!response.ok) throw new Error(`/openapi.json answers ${response.status}`);
    const root = await response.json();
    const entries = show(root);
    bindAccess(root);
    byId("search").addEventListener("input", () => search(entries));
    byId("state").textContent = "";
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
      event.preventDefault();
      byId("search").focus();
    });
    addEventListener("hashchange", openNamed);
    openNamed();
  } catch (error) {
    byId("state").textContent = `The document could not be loaded: ${error.message}`;
  }
}

start();
