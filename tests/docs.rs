//! The manual names everything that callers can meet: audit operations, metrics, settings.

use std::path::Path;

use command_center::core::audit::operation;
use command_center::settings::{KEYS, Settings};
use command_center::telemetry::Metrics;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).expect("a page of the manual")
}

/// A row may name `a.b.c`, `.d` and mean `a.b.d` by the second.
fn explains(row: &str, operation: &str) -> bool {
    let (head, last) = operation.rsplit_once('.').expect("names have parts");
    row.contains(&format!("`{operation}`")) || row.contains(&format!("`{head}.")) && row.contains(&format!("`.{last}`"))
}

#[test]
fn every_audit_operation_is_explained() {
    let page = page("audit.md");
    let missing: Vec<_> = operation::ALL.iter().filter(|name| !page.lines().any(|row| explains(row, name))).collect();
    assert!(missing.is_empty(), "docs/audit.md says nothing of {missing:?}");
    assert!(!explains("| `a.b.c`, `.d` |", "a.b.e") && explains("| `a.b.c`, `.d` |", "a.b.d"));
}

#[test]
fn every_metric_is_explained() {
    let page = page("metrics.md");
    let shown = Metrics::new(10).expect("metrics").render();
    let families: Vec<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(families.len() > 25, "{families:?}");
    let missing: Vec<_> = families.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/metrics.md says nothing of {missing:?}");
}

#[test]
fn every_setting_is_explained_with_its_flag_variable_and_default() {
    let page = page("operations.md");
    let defaults = Settings::default();
    for key in KEYS {
        let row = page.lines().find(|row| row.starts_with(&format!("| `{}` |", key.name)));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md has no row for {}", key.name));
        let default = (key.show)(&defaults);
        assert!(key.secret || row.contains(&format!("`--{}`", key.flag)), "{row}");
        assert!(row.contains(&format!("`{}`", key.env)), "{row}");
        let shown = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        // Where the database lies follows from data_dir, and is told so.
        let is_derived = key.name == "dsn";
        assert!(is_derived || row.contains(&format!("| {shown} |")), "default {default:?}: {row}");
    }
}

#[test]
fn alert_rules_ask_for_metrics_that_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml");
    let rules = std::fs::read_to_string(path).expect("the alert rules");
    let shown = Metrics::new(10).expect("metrics").render();
    let families: Vec<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let expressions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|expression| expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let named: Vec<&str> = words
        .filter(|word| {
            word.starts_with("command_center_") || word.starts_with("aetherlink_") || *word == "errors_total"
        })
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    assert!(named.len() > 8, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !families.contains(name)).collect();
    assert!(unknown.is_empty(), "deploy/prometheus/alerts.yml asks for {unknown:?}");
}
