//! Texts with placeholders: only those that have a value where they stand.

use super::super::super::check::Checker;
use super::super::super::finding::{Finding, Path, nearest, shown};
use super::super::super::tree::Node;
use crate::core::rest::template::{BadTemplate, Placeholder, Template};

/// The placeholders of a text; `None` when one of them cannot be there.
pub(super) fn check(
    checker: &mut Checker,
    node: &Node<'_>,
    path: &Path<'_>,
    text: &str,
    allowed: &[Placeholder],
) -> Option<Vec<Placeholder>> {
    let names = || allowed.iter().map(|placeholder| placeholder.as_str());
    let braced = |name: &str| format!("{{{{{name}}}}}");
    let there_are = || format!("there are: {}", names().map(braced).collect::<Vec<_>>().join(", "));
    let (message, hint) = match Template::parse(text) {
        Ok(template) => match template.placeholders().find(|placeholder| !allowed.contains(placeholder)) {
            None => return Some(template.placeholders().collect()),
            Some(placeholder) => {
                let message = format!("{} has no value here", braced(placeholder.as_str()));
                (message, needs(placeholder).map_or_else(there_are, str::to_owned))
            }
        },
        Err(BadTemplate::Unclosed) => ("a placeholder lacks its closing }}".to_owned(), there_are()),
        Err(BadTemplate::Unknown(name)) => {
            let hint = match nearest(&name, names()) {
                Some(known) => format!("did you mean {}?", braced(known)),
                None => there_are(),
            };
            (format!("there is no placeholder {}", braced(&shown(&name))), hint)
        }
    };
    checker.out.push(Finding::error(node.at, "bad-template", path.pointer(), message).hint(hint));
    None
}

/// What gives a placeholder its value.
fn needs(placeholder: Placeholder) -> Option<&'static str> {
    match placeholder {
        Placeholder::Bookmark | Placeholder::BookmarkDate => {
            Some("it goes into query or body, and needs bookmark, e.g. bookmark: { field: updated_at }")
        }
        Placeholder::Cursor => {
            Some("it goes into query or body, and needs paging, e.g. paging: { cursor: { at: /next } }")
        }
        Placeholder::Page => Some("it needs paging: { page: { … } }"),
        Placeholder::Offset => Some("it needs paging: { offset: { … } }"),
        Placeholder::Limit => Some("it needs paging with a limit, or a size, of a page"),
        _ => None,
    }
}
