//! A plan as people read it: signs, fields, a summary line.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Action, FieldChange, Plan, Step};

fn sign(action: Action) -> char {
    match action {
        Action::Create => '+',
        Action::Delete => '-',
        Action::Update | Action::Pause | Action::Resume | Action::Repair(_) => '~',
    }
}

fn describe(step: &Step) -> String {
    match step.action {
        Action::Repair(facet) => format!("repair {}", facet.as_str()),
        action => action.as_str().to_owned(),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        value => value.to_string(),
    }
}

/// Plain text, a sign at the start of each schedule's line and of each field's line:
/// `+` comes, `-` goes, `~` changes. Ends with the summary line.
pub fn render_text(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let _ = writeln!(text, "{} {} ({})", sign(step.action), step.id, describe(step));
        text.push_str(&render_diff(&step.diff));
        if let Some(held) = step.held {
            let _ = writeln!(text, "    ! held: {held}");
        }
    }
    text.push_str(&summary(plan));
    text.push('\n');
    text
}

/// A line for each field, indented.
pub fn render_diff(diff: &[FieldChange]) -> String {
    let mut text = String::new();
    let width = diff.iter().map(|change| change.field.len()).max().unwrap_or(0);
    for change in diff {
        let field = format!("{:width$}", change.field);
        let _ = match (&change.from, &change.to) {
            (Value::Null, to) => writeln!(text, "    + {field} = {to}"),
            (from, Value::Null) => writeln!(text, "    - {field} = {from}"),
            (from, to) => writeln!(text, "    ~ {field} = {from} -> {to}"),
        };
    }
    text
}

/// One line that counts what the plan does.
fn summary(plan: &Plan) -> String {
    if plan.is_empty() {
        return "No changes: what runs is what the files say.".to_owned();
    }
    let count = |wanted: fn(Action) -> bool| plan.steps.iter().filter(|step| wanted(step.action)).count();
    let mut line = format!(
        "Plan: {} to create, {} to change, {} to delete.",
        count(|action| action == Action::Create),
        count(|action| sign(action) == '~'),
        count(|action| action == Action::Delete)
    );
    let held = plan.held().count();
    if held > 0 {
        let _ = write!(line, " {held} held.");
    }
    line
}

/// A table for a review comment, the fields folded below it.
pub fn render_markdown(plan: &Plan) -> String {
    let mut text = String::from("### Command Center plan\n\n");
    if !plan.is_empty() {
        text.push_str("| | Schedule | Action | Field | From | To |\n|---|---|---|---|---|---|\n");
        for step in &plan.steps {
            let held = if step.held.is_some() { " (held)" } else { "" };
            let head = format!("| {} | `{}` | {}{held} |", sign(step.action), step.id, describe(step));
            for change in &step.diff {
                let (from, to) = (show(&change.from), show(&change.to));
                let _ = writeln!(text, "{head} {} | {} | {} |", change.field, cell(&from), cell(&to));
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{}\n\n`digest: {}`", summary(plan), plan.digest());
    text
}

/// A value that cannot break out of its table cell.
fn cell(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|").replace('`', "'").replace('\n', " "))
}
