//! The rules of `resources`: a connector's own names, or those of the requests in the file.

use super::check::{Checker, kind};
use super::finding::{Finding, Mark, Path, nearest, shown};
use super::tree::{Node, Value};
use crate::core::model::{Connector, Resource, ScheduleSpec};

/// A resource that the file names.
pub(super) struct Named {
    resource: Resource,
    at: Mark,
    /// Its place in the list.
    index: usize,
}

impl Checker {
    pub fn resources(&mut self, node: &Node<'_>, path: &Path<'_>) -> Vec<Named> {
        let items = match &node.value {
            Value::List(items) if !items.is_empty() => items,
            Value::List(_) => {
                let finding = Finding::error(node.at, "out-of-range", path.pointer(), "resources is empty");
                self.out.push(finding.hint("name at least one, or remove the key for the usual ones"));
                return Vec::new();
            }
            _ => {
                self.mismatch(node, path, "a list", "write e.g. [jobs, contacts]");
                return Vec::new();
            }
        };
        if self.connector.resources().is_some_and(<[_]>::is_empty) {
            self.not_for_connector(node.at, path, "resources");
            return Vec::new();
        }
        let mut named: Vec<Named> = Vec::with_capacity(items.len().min(8));
        for (index, item) in items.iter().enumerate() {
            match resource(self.connector, item) {
                Some(resource) if named.iter().any(|known| known.resource == resource) => {}
                Some(resource) => named.push(Named { resource, at: item.at, index }),
                None => self.bad_resource(item, path, index),
            }
        }
        named
    }

    fn bad_resource(&mut self, item: &Node<'_>, path: &Path<'_>, index: usize) {
        let known = self.connector.resources().unwrap_or_default();
        match &item.value {
            Value::Text { text, .. } if known.is_empty() => {
                let index = index.to_string();
                let message = format!("\"{}\" is not a resource's name", shown(text));
                let hint = "1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', starting with a letter or digit";
                let finding = Finding::error(item.at, "unknown-resource", path.key(&index).pointer(), message);
                self.out.push(finding.hint(hint));
            }
            Value::Text { text, .. } => self.no_such_resource(text, item.at, index, known.iter()),
            _ => {
                let index = index.to_string();
                let message = format!("a resource is a name, not a {}", kind(item));
                let hint = match known {
                    [] => "write e.g. orders".to_owned(),
                    _ => there_are(known.iter()),
                };
                let finding = Finding::error(item.at, "unknown-resource", path.key(&index).pointer(), message);
                self.out.push(finding.hint(hint));
            }
        }
    }

    fn no_such_resource<'r>(
        &mut self,
        name: &str,
        at: Mark,
        index: usize,
        known: impl Iterator<Item = &'r Resource> + Clone,
    ) {
        let hint = match nearest(name, known.clone().map(Resource::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => there_are(known),
        };
        let message = format!("there is no resource \"{}\"", shown(name));
        let finding = Finding::error(at, "unknown-resource", format!("/resources/{index}"), message);
        self.out.push(finding.hint(hint));
    }

    /// What is imported in the end and in which order; where the file itself says what there is, only that.
    pub fn agree_on_resources(&mut self, spec: &mut ScheduleSpec) {
        let named = std::mem::take(&mut self.named);
        let requests = spec.connection.as_ref().map(|connection| &connection.requests);
        if let Some(requests) = requests.filter(|requests| !requests.is_empty()) {
            for Named { resource, at, index } in named.iter().filter(|named| !requests.contains_key(&named.resource)) {
                self.no_such_resource(resource.as_str(), *at, *index, requests.keys());
            }
            if named.is_empty() {
                spec.resources = requests.keys().cloned().collect();
            }
        }
        if !named.is_empty() {
            spec.resources = named.into_iter().map(|named| named.resource).collect();
        } else if spec.resources.is_empty() {
            spec.resources = self.connector.default_resources().to_vec();
        }
        self.has_source(spec);
        if let Some(declared) = self.connector.resources() {
            spec.resources.sort_by_key(|resource| declared.iter().position(|known| known == resource));
        }
    }

    /// A file may do without what its connector's defaults say one day; a run cannot.
    fn has_source(&mut self, spec: &ScheduleSpec) {
        let connection = spec.connection.as_ref();
        let is_whole = connection.is_some_and(|own| own.base_url.is_some() && !own.requests.is_empty());
        let is_told = self.out.iter().any(|finding| finding.field.starts_with("/connection"));
        if self.connector == Connector::Http && !is_whole && !is_told {
            let message = "without base_url and requests, each run will fail";
            let finding = Finding::error(Mark::NONE, "no-source", "/connection".to_owned(), message).warning();
            self.out.push(finding.hint("put them into connection, here or in schedules/http/_defaults.yaml"));
        }
    }
}

fn there_are<'r>(known: impl Iterator<Item = &'r Resource>) -> String {
    format!("there are: {}", known.map(Resource::as_str).collect::<Vec<_>>().join(", "))
}

/// The resource that an item names: one of the connector's, or any where files name their own.
fn resource(connector: Connector, item: &Node<'_>) -> Option<Resource> {
    let Value::Text { text, .. } = &item.value else { return None };
    match connector.resources() {
        Some(known) => known.iter().find(|resource| resource.as_str() == text).cloned(),
        None => text.parse().ok(),
    }
}
