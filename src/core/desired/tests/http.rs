//! Files of the connector `http`: what good ones mean, what is said about bad ones, and that the schema agrees.

use serde_json::{Value, json};

use super::super::*;
use crate::core::model::{Connector, ScheduleId, ScheduleSpec};
use crate::core::plan::diff;

fn id() -> ScheduleId {
    "http/shop".parse().unwrap()
}

const GOOD: &str = "\
interval_sec: 300
connection:
  base_url: https://api.example.com/v1/
  headers: { Accept: application/json }
  auth: { header: { name: X-Api-Key, secret: { env: CC_SECRET_SHOP }, prefix: 'Token ' } }
  requests:
    orders:
      path: /tenants/{{tenant}}/orders
      query: { updated_since: '{{bookmark}}', limit: 100, open: true }
      records: data
      key: id
      paging: { cursor: { at: meta, param: cursor } }
      bookmark: { field: updated_at, start: 5 }
    customers:
      method: POST
      path: /customers/search
      body: { page: '{{page}}', size: '{{limit}}', filter: [a, 1, null] }
      records: /data/items
      key: [/account/id, number]
      paging: { page: { first: 1, size: 50 } }
      max_pages: 10000
";

#[track_caller]
fn spec(text: &str) -> ScheduleSpec {
    let parsed = parse(&id(), text.as_bytes(), Defaults::NONE);
    assert_eq!(parsed.diagnostics, [], "for {text}");
    parsed.spec.unwrap()
}

/// A whole file from the keys of one request, indented by six.
fn request(keys: &str) -> String {
    let keys: String = keys.lines().map(|line| format!("      {line}\n")).collect();
    format!("interval_sec: 5\nconnection:\n  base_url: https://a.example\n  requests:\n    orders:\n{keys}")
}

#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let parsed = parse(&id(), text.as_bytes(), Defaults::NONE);
    let line = |d: &Diagnostic| {
        let hint = d.hint.as_deref().unwrap_or("-");
        format!("{}:{} {} {}: {} ({hint})", d.line, d.column, d.code, d.field, d.message)
    };
    let found: Vec<String> = parsed.diagnostics.iter().map(line).collect();
    assert_eq!(found, expect, "for {text}");
    assert!(!found.join("\n").contains("hunter2"));
}

#[test]
fn a_good_file_is_understood_and_means_the_same_however_it_is_written() {
    let read = spec(GOOD);
    let connection = read.connection.clone().unwrap();
    assert_eq!(connection.base_url.as_deref(), Some("https://api.example.com/v1"));
    let names: Vec<String> = read.resources.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["customers", "orders"], "left out, all of them");
    let orders = serde_json::to_value(&connection.requests).unwrap()["orders"].clone();
    assert_eq!(
        orders,
        json!({
            "path": "/tenants/{{tenant}}/orders",
            "query": { "updated_since": "{{bookmark}}", "limit": "100", "open": "true" },
            "records": "/data",
            "key": ["/id"],
            "paging": { "cursor": { "at": "/meta", "param": "cursor" } },
            "bookmark": { "field": "/updated_at", "start": "5" },
        })
    );
    let again = serde_json::to_value(&read).unwrap();
    assert_eq!(check_value(&id(), &again, Defaults::NONE).unwrap(), read, "what is effective is in its normal form");
    let other = GOOD
        .replace("key: id", "key: [/id]")
        .replace("limit: 100", "limit: '100'")
        .replace("first: 1, ", "")
        .replace("      max_pages: 10000\n", "")
        .replace("records: data\n", "records: /data\n");
    assert_eq!(spec(&other), read);
    assert_eq!(spec(&format!("{GOOD}resources: [customers, orders]\n")), read);
    assert_ne!(spec(&format!("{GOOD}resources: [orders, customers]\n")), read, "the order is the file's");
}

#[test]
fn the_example_in_the_repository_is_good() {
    let read = spec(include_str!("../../../../examples/schedules/http/shop.yaml"));
    assert_eq!(read.resources.len(), 2);
    let page = include_str!("../../../../docs/schedules.md");
    let section = page.split("the connector `http`\n").nth(1).unwrap();
    let example = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    spec(example);
}

#[test]
fn a_difference_is_told_down_to_the_field() {
    let before = spec(GOOD);
    let after = spec(&GOOD.replace("limit: 100", "limit: 200").replace("CC_SECRET_SHOP", "CC_SECRET_OTHER"));
    let fields: Vec<(String, Value)> =
        diff(Some(&before), Some(&after)).into_iter().map(|change| (change.field, change.to)).collect();
    assert_eq!(
        fields,
        [
            ("connection.auth.header.secret".to_owned(), json!({ "env": "CC_SECRET_OTHER" })),
            ("connection.requests.orders.query.limit".to_owned(), json!("200")),
        ]
    );
}

#[test]
fn requests_are_checked() {
    check(
        &request("records: data.items\nurl: /x"),
        &[
            "6:7 missing-key /connection/requests/orders: orders needs path (add e.g. path: /orders)",
            "6:7 missing-key /connection/requests/orders: orders needs key (add the record's id, e.g. key: id)",
            "6:16 bad-pointer /connection/requests/orders/records: records is no path with dots (write the JSON pointer /data/items)",
            "7:7 unknown-key /connection/requests/orders/url: unknown key \"url\" (there are: method, path, query, body, records, key, paging, bookmark, max_pages)",
        ],
    );
    check(
        &request("path: orders?x=1\nkey: []\nmethod: get\nmax_pages: 0"),
        &[
            "6:13 bad-path /connection/requests/orders/path: path begins with a slash (write e.g. /orders; the host stands in base_url)",
            "7:12 out-of-range /connection/requests/orders/key: key has 0 fields; it takes 1 to 8 (name what makes a record the only one, e.g. key: id)",
            "8:15 out-of-range /connection/requests/orders/method: method is GET or POST, not get (write GET)",
            "9:18 out-of-range /connection/requests/orders/max_pages: max_pages is 0, outside 1 to 1000000 (pages)",
        ],
    );
    check(
        &request("path: /a/../b\nkey: ''\nbody: { a: 1 }"),
        &[
            "6:13 bad-path /connection/requests/orders/path: path steps up with dots (write it out, from base_url on)",
            "7:12 bad-pointer /connection/requests/orders/key: key is empty (name a field, e.g. id, or give a JSON pointer, e.g. /meta/id)",
            "8:7 body-without-post /connection/requests/orders/body: a body goes with POST only (add method: POST, or move what is asked into query)",
        ],
    );
    check(
        "interval_sec: 5\nconnection:\n  base_url: https://a.example\n  requests: { 'a b': { path: /a, key: id }, c: }\n",
        &[
            "4:15 unknown-resource /connection/requests/a b: \"a b\" is not a resource's name (a resource's name is 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', and starts with a letter or digit)",
            "4:46 no-value /connection/requests/c: c has no value (give a value, or remove the key)",
        ],
    );
}

#[test]
fn placeholders_have_to_have_a_value_where_they_stand() {
    check(
        &request("path: /{{tenent}}/{{cursor}}\nkey: id\nquery: { a: '{{bookmark}}', b: '{{page', c: '{{offset}}' }"),
        &[
            "6:13 bad-template /connection/requests/orders/path: there is no placeholder {{tenent}} (did you mean {{tenant}}?)",
            "8:19 bad-template /connection/requests/orders/query/a: {{bookmark}} has no value here (it goes into query or body, and needs bookmark, e.g. bookmark: { field: updated_at })",
            "8:38 bad-template /connection/requests/orders/query/b: a placeholder lacks its closing }} (there are: {{tenant}}, {{run_id}}, {{now}}, {{now_date}})",
            "8:51 bad-template /connection/requests/orders/query/c: {{offset}} has no value here (it needs paging: { offset: { … } })",
        ],
    );
    check(
        &request("path: /a/{{bookmark}}\nkey: id\nbookmark: { field: t }"),
        &[
            "6:13 bad-template /connection/requests/orders/path: {{bookmark}} has no value here (it goes into query or body, and needs bookmark, e.g. bookmark: { field: updated_at })",
        ],
    );
    spec(&request("path: /a/{{bookmark}}/{{ tenant }}\nkey: id\nbookmark: { field: t, start: '2020-01-01' }"));
}

#[test]
fn paging_is_one_way_that_moves_on() {
    let paged = |paging: &str| request(&format!("path: /a\nkey: id\npaging: {paging}"));
    for good in [
        "{ cursor: { last: id, param: after, more: /has_more } }",
        "{ offset: { param: skip, limit_param: take, limit: 100, total: /total } }",
        "{ page: { param: p, first: 0 } }",
        "{ link: true }",
        "{ next_url: /next }",
    ] {
        spec(&paged(good));
    }
    let at = "/connection/requests/orders/paging";
    for (bad, expect) in [
        (
            "{ link: true, next_url: /n }",
            format!("8:15 two-ways {at}: paging takes exactly one way (one of: cursor, offset, page, link, next_url)"),
        ),
        (
            "{ cursors: { at: n } }",
            format!("8:17 unknown-key {at}/cursors: unknown key \"cursors\" (did you mean \"cursor\"?)"),
        ),
        (
            "{ link: false }",
            format!(
                "8:23 wrong-type {at}/link: link has to be true, not a boolean (write link: true, or remove paging)"
            ),
        ),
        (
            "{ cursor: { param: c } }",
            format!(
                "8:25 missing-key {at}/cursor: a cursor stands either at a place of the answer or in the last record (give one of at (e.g. at: /next) and last (e.g. last: id))"
            ),
        ),
        (
            "{ cursor: { at: next } }",
            format!(
                "6:7 missing-key {at}: nothing carries the cursor to the source (add param to paging.cursor, or put {{{{cursor}}}} into query or body)"
            ),
        ),
        (
            "{ offset: { param: o, limit_param: l } }",
            format!("8:25 missing-key {at}/offset: limit_param has nothing to carry (add limit, e.g. limit: 100)"),
        ),
        ("{}", format!("8:15 no-value {at}: paging is empty (one of: cursor, offset, page, link, next_url)")),
    ] {
        check(&paged(bad), &[&expect]);
    }
}

#[test]
fn secrets_stand_in_auth_by_reference_only() {
    let with = |keys: &str| {
        format!(
            "interval_sec: 5\nconnection:\n  base_url: https://a.example\n{keys}\n  requests: {{ a: {{ path: /a, key: id }} }}\n"
        )
    };
    let by_reference = "write { env: CC_SECRET_NAME } or { file: NAME }, and replace the key: it stands in a file";
    check(
        &with("  auth: { bearer: hunter2 }"),
        &[&format!(
            "4:19 literal-secret /connection/auth/bearer: bearer holds the secret itself; only a reference is allowed here ({by_reference})"
        )],
    );
    check(
        &with("  auth: { header: { name: 'X Y', secret: hunter2, value: hunter2 } }"),
        &[
            "4:27 bad-header /connection/auth/header/name: not a header's name (e.g. X-Api-Key)",
            &format!(
                "4:42 literal-secret /connection/auth/header/secret: secret holds the secret itself; only a reference is allowed here ({by_reference})"
            ),
            "4:51 unknown-key /connection/auth/header/value: unknown key \"value\" (there are: name, secret, prefix)",
        ],
    );
    let in_auth = "give it in auth by reference, e.g. auth: { bearer: { env: CC_SECRET_NAME } }";
    check(
        &with(
            "  headers: { authorization: Bearer hunter2, X-Api-Key: hunter2, Cookie: hunter2, Host: a, accept: a, Accept: b }",
        ),
        &[
            &format!(
                "4:14 literal-secret /connection/headers/authorization: the header authorization holds a secret, and headers are no place for one ({in_auth})"
            ),
            &format!(
                "4:45 literal-secret /connection/headers/X-Api-Key: the header X-Api-Key holds a secret, and headers are no place for one ({in_auth})"
            ),
            &format!(
                "4:65 literal-secret /connection/headers/Cookie: the header Cookie holds a secret, and headers are no place for one ({in_auth})"
            ),
            "4:82 bad-header /connection/headers/Host: the header Host is written by the program itself (remove it)",
            "4:102 duplicate-key /connection/headers/Accept: the header Accept is given twice (names of headers do not tell capitals from small letters; remove one)",
        ],
    );
    let in_query =
        "give it in auth by reference, e.g. auth: { query: { name: api_key, secret: { env: CC_SECRET_NAME } } }";
    check(
        &request(
            "path: /a\nkey: id\nquery: { api_key: hunter2, page_token: '{{cursor}}' }\npaging: { cursor: { at: next } }",
        ),
        &[&format!(
            "8:25 literal-secret /connection/requests/orders/query/api_key: api_key holds a secret itself ({in_query})"
        )],
    );
    check(
        &request("path: /a\nkey: id\nmethod: POST\nbody: { auth: [{ password: hunter2 }] }"),
        &[&format!(
            "9:34 literal-secret /connection/requests/orders/body/auth/0/password: password holds a secret itself ({in_query})"
        )],
    );
    check(
        &with("  auth: { oauth: { token_url: 'https://u:hunter2@b/t', client_secret: { env: CC_SECRET_A } } }"),
        &[
            "4:18 missing-key /connection/auth/oauth: oauth needs client_id (add client_id)",
            "4:31 url-credentials /connection/auth/oauth/token_url: token_url carries credentials (remove them, and give client_id and client_secret)",
        ],
    );
}

#[test]
fn other_keys_are_checked_too() {
    check(
        "interval_sec: 5\nconnection: { base_url: 'ftp://x', api_key: { env: CC_SECRET_A }, tokn: 1, max_body_mb: 1000 }\n",
        &[
            "2:25 bad-url /connection/base_url: base_url has to begin with http:// or https:// (e.g. https://api.example.com/v1)",
            "2:36 not-for-connector /connection/api_key: the http connector takes no api_key; acculynx does (remove it; http takes: base_url, headers, auth, max_body_mb, requests)",
            "2:67 unknown-key /connection/tokn: unknown key \"tokn\" (there are: base_url, headers, auth, max_body_mb, requests)",
            "2:89 out-of-range /connection/max_body_mb: max_body_mb is 1000, outside 1 to 256 (MiB, at most 256)",
        ],
    );
    let there = "put them into connection, here or in schedules/http/_defaults.yaml";
    check(
        "interval_sec: 5\n",
        &[&format!("0:0 no-source /connection: without base_url and requests, each run will fail ({there})")],
    );
    check(
        &format!("{}resources: [order, 5, 'a b']\n", request("path: /a\nkey: id")),
        &[
            "8:13 unknown-resource /resources/0: there is no resource \"order\" (did you mean \"orders\"?)",
            "8:20 unknown-resource /resources/1: a resource is a name, not a number (write e.g. orders)",
            "8:23 unknown-resource /resources/2: \"a b\" is not a resource's name (1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', starting with a letter or digit)",
        ],
    );
}

/// Connections, and whether they are good by both: what no schema can say is left out.
const TABLE: &[(bool, &str)] = &[
    (true, "{ base_url: 'https://a', requests: { o: { path: /o, key: id } } }"),
    (
        true,
        "{ base_url: 'https://a', max_body_mb: 32, headers: { X-A: b }, requests: { o: { path: /o, key: [id, b] } } }",
    ),
    (true, "{ base_url: 'https://a', auth: { bearer: { env: CC_SECRET_A } }, requests: { o: { path: /o, key: id } } }"),
    (
        true,
        "{ base_url: 'https://a', auth: { basic: { user: a, password: { file: b } } }, requests: { o: { path: /o, key: id } } }",
    ),
    (
        true,
        "{ base_url: 'https://a', auth: { oauth: { token_url: 'https://b/t', client_id: c, client_secret: { file: b }, scope: s } }, requests: { o: { path: /o, key: id } } }",
    ),
    (
        true,
        "{ base_url: 'https://a', requests: { o: { path: /o, key: id, query: { a: 1, b: true, c: x }, paging: { link: true } } } }",
    ),
    (true, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, method: POST, body: [{ a: null }] } } }"),
    (
        true,
        "{ base_url: 'https://a', requests: { o: { path: /o, key: id, bookmark: { field: t, start: 5, overlap_sec: 60 } } } }",
    ),
    (false, "{ base_url: 'https://a', requests: {} }"),
    (false, "{ base_url: 'https://a', headers: {}, requests: { o: { path: /o, key: id } } }"),
    (false, "{ base_url: 'https://a', headers: { 'a b': c }, requests: { o: { path: /o, key: id } } }"),
    (false, "{ base_url: 'https://a', max_body_mb: 0, requests: { o: { path: /o, key: id } } }"),
    (false, "{ base_url: 'https://a', auth: {}, requests: { o: { path: /o, key: id } } }"),
    (false, "{ base_url: 'https://a', auth: { bearer: x }, requests: { o: { path: /o, key: id } } }"),
    (
        false,
        "{ base_url: 'https://a', auth: { basic: { user: 'a:b', password: { file: b } } }, requests: { o: { path: /o, key: id } } }",
    ),
    (false, "{ base_url: 'https://a', auth: { header: { name: X } }, requests: { o: { path: /o, key: id } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: o, key: id } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: [] } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, paging: } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, method: PUT } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, method: POST, body: x } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, paging: { link: false } } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, paging: { link: true, next_url: x } } } }"),
    (
        false,
        "{ base_url: 'https://a', requests: { o: { path: /o, key: id, paging: { cursor: { at: a, last: b, param: c } } } } }",
    ),
    (
        false,
        "{ base_url: 'https://a', requests: { o: { path: /o, key: id, paging: { page: { size_param: a, param: p } } } } }",
    ),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, bookmark: { start: 5 } } } }"),
    (false, "{ base_url: 'https://a', requests: { 'o o': { path: /o, key: id } } }"),
    (false, "{ base_url: 'https://a', requests: { o: { path: /o, key: id, query: { a: [] } } } }"),
];

#[test]
fn the_schema_and_the_rules_agree() {
    let schema = jsonschema::draft202012::new(&schedule_schema()).unwrap();
    for (good, connection) in TABLE {
        let text = format!("interval_sec: 5\nconnection: {connection}\n");
        let value = document_value(&id(), text.as_bytes()).unwrap();
        let errors: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), *good, "schema on {text}: {errors:?}");
        let parsed = parse(&id(), text.as_bytes(), Defaults::NONE);
        assert_eq!(parsed.diagnostics.is_empty(), *good, "parse on {text}: {:?}", parsed.diagnostics);
        if let Some(spec) = parsed.spec {
            let effective = serde_json::to_value(spec).unwrap();
            assert!(schema.is_valid(&effective), "{effective}");
        }
    }
}

#[test]
fn edits_reach_into_requests() {
    let patch = json!({ "connection": { "requests": { "orders": {
        "query": { "limit": 500, "open": null }, "max_pages": 50,
    }, "customers": null } } });
    let edited = edit(&id(), GOOD.as_bytes(), patch.as_object().unwrap()).unwrap();
    let text = String::from_utf8(edited).unwrap();
    let orders = &spec(&text).connection.unwrap().requests[&"orders".parse().unwrap()];
    assert_eq!((orders.max_pages, orders.query.len()), (Some(50), 2));
    assert!(text.contains("      records: data\n      key: id\n"), "{text}");
    let fresh = new_document(patch_of(&spec(GOOD)).as_object().unwrap());
    assert_eq!(spec(std::str::from_utf8(&fresh).unwrap()), spec(GOOD));
}

fn patch_of(spec: &ScheduleSpec) -> Value {
    serde_json::to_value(spec).unwrap()
}

#[test]
fn what_a_refused_edit_suggests_holds_no_secret() {
    let shared = "interval_sec: 5\nconnection: &a { a: b }\nlabels: *a\n";
    let patch = json!({ "connection": { "auth": { "header": { "name": "X", "secret": "hunter2" } } } });
    let error = edit(&id(), shared.as_bytes(), patch.as_object().unwrap()).unwrap_err();
    assert!(
        !error.suggestion.contains("hunter2") && error.suggestion.contains("CC_SECRET_NAME"),
        "{}",
        error.suggestion
    );
}

#[test]
fn defaults_of_the_connector_lie_below_those_of_the_fleet_do_not() {
    let layer = |file: DefaultsFile, text: &str| {
        let parsed = parse_defaults(file, text.as_bytes());
        assert_eq!(parsed.diagnostics, []);
        parsed.layer.unwrap()
    };
    let fleet = layer(DefaultsFile::Fleet, "connection: { base_url: 'https://acculynx.example' }\nresources: [jobs]\n");
    let own = layer(
        DefaultsFile::Of(Connector::Http),
        "interval_sec: 60\nconnection: { base_url: 'https://shop.example', requests: { o: { path: /o, key: id } } }\n",
    );
    let parsed = |layers: Vec<Layer>, text: &str| parse(&id(), text.as_bytes(), &Defaults::new(layers));
    let both = parsed(vec![fleet.clone(), own], "connection: { auth: { bearer: { env: CC_SECRET_A } } }\n");
    assert_eq!(both.diagnostics, []);
    let spec = both.spec.unwrap();
    assert_eq!(spec.connection.as_ref().unwrap().base_url.as_deref(), Some("https://shop.example"));
    assert_eq!((spec.resources.len(), spec.interval_sec), (1, Some(60)));
    let without = parsed(vec![fleet], "interval_sec: 5\n");
    assert_eq!(without.spec.unwrap().connection, None);
}
