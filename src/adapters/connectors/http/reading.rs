//! Reads each resource from its first page to its last, hands the records to the sink page by page, and
//! lets the bookmark stand only with the last page of a complete reading.

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Http;
use super::source::{Reply, Source, configuration};
use crate::adapters::connectors::{ErrorClass, ImportContext, ImportFailure, Page, Record, SinkError};
use crate::core::model::{Digest, HttpMethod, HttpRequest, ImportStats, Resource};
use crate::core::rest::bookmark::Mark;
use crate::core::rest::pages::{Endless, Pages};
use crate::core::rest::pointer;
use crate::core::rest::template::{Values, fill, fill_path, fill_value};

/// How far a resource is known.
#[derive(Debug, Serialize, Deserialize)]
struct Bookmark {
    /// Names the request it belongs to: what is known by one says nothing of another.
    request: String,
    value: Value,
}

/// One import of one tenant.
pub(super) struct Reading<'a> {
    http: &'a Http,
    context: &'a ImportContext,
    stats: ImportStats,
}

/// One resource while it is read.
struct List<'r> {
    resource: &'r Resource,
    request: &'r HttpRequest,
    pages: Pages<'r>,
    values: Values,
    /// The last page with records, which waits for the bookmark.
    held: Vec<Record>,
    /// The highest value of the bookmark's field so far.
    highest: Option<Mark>,
}

impl<'a> Reading<'a> {
    pub fn new(http: &'a Http, context: &'a ImportContext) -> Self {
        Reading { http, context, stats: ImportStats::default() }
    }

    /// What was written so far, whether or not the import ended well.
    pub fn stats(&self) -> ImportStats {
        self.stats
    }

    /// Imports the resources asked for, in their order. One that is described wrongly, or answers nonsense,
    /// does not keep the others from being read; the first failure is the import's.
    pub async fn run(&mut self) -> Result<(), ImportFailure> {
        let context = self.context;
        let mut source = Source::open(self.http, context)?;
        let requests = &context.connection.requests;
        if requests.is_empty() {
            let file = context.id.file();
            return Err(configuration(format!(
                "connection.requests is missing: set it in {file}, e.g. orders: {{ path: /orders, key: id }}"
            )));
        }
        let named = &context.resources;
        let resources: Vec<&Resource> =
            if named.is_empty() { requests.keys().collect() } else { named.iter().collect() };
        let mut first = Ok(());
        for resource in resources {
            let read = match requests.get(resource) {
                Some(request) => self.read(&mut source, resource, request).await,
                None => Err(configuration(format!("connection.requests has no {resource}: correct {}", source.file()))),
            };
            match read {
                Err(failure) if matches!(failure.class, ErrorClass::Configuration | ErrorClass::BadResponse) => {
                    first = first.and(Err(failure));
                }
                read => read.or_else(|failure| first.clone().and(Err(failure)))?,
            }
        }
        first
    }

    async fn read(
        &mut self,
        source: &mut Source<'_>,
        resource: &Resource,
        request: &HttpRequest,
    ) -> Result<(), ImportFailure> {
        let name = digest(source.base(), request);
        let known = self.known(resource, &name).await?;
        let began = source.now();
        let mut values = source.values();
        if let Some(rule) = &request.bookmark {
            let start = rule.start.as_ref().and_then(|start| Mark::of(&json!(start)));
            values.bookmark = known.clone().map(|mark| mark.minus(rule.overlap_sec)).or(start);
        }
        let mut list = List { resource, request, pages: Pages::new(request), values, held: Vec::new(), highest: None };
        let done = self.read_pages(source, &mut list).await;
        let held = std::mem::take(&mut list.held);
        match done {
            Ok(()) => {
                let reached = match (known, list.highest.map(|mark| mark.at_most(began))) {
                    (Some(known), Some(highest)) => {
                        Some(known.higher(highest).map_err(|(a, b)| mixed(source, resource, &a, &b))?)
                    }
                    (known, highest) => highest.or(known),
                };
                let bookmark = reached.map(|mark| json!(Bookmark { request: name, value: mark.to_value() }));
                self.write(resource, held, bookmark).await
            }
            Err(failure) => {
                if failure.class != ErrorClass::Store {
                    self.write(resource, held, None).await?;
                }
                Err(failure)
            }
        }
    }

    async fn read_pages(&mut self, source: &mut Source<'_>, list: &mut List<'_>) -> Result<(), ImportFailure> {
        loop {
            list.pages.turn().map_err(|endless| without_end(source, list, &endless))?;
            let page = ask(source, list).await?;
            let (answer, link) = page;
            let records = find_records(source, list, &answer)?;
            let goes_on = list
                .pages
                .advance(&answer, records, link.as_deref())
                .map_err(|endless| without_end(source, list, &endless))?;
            let place = list.request.records.clone();
            let new = self.take(source, list, taken(answer, &place))?;
            if !new.is_empty() {
                let before = std::mem::replace(&mut list.held, new);
                self.write(list.resource, before, None).await?;
            }
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// The records of a page with their keys; those that have none are counted.
    fn take(
        &mut self,
        source: &Source<'_>,
        list: &mut List<'_>,
        items: Vec<Value>,
    ) -> Result<Vec<Record>, ImportFailure> {
        let mut records = Vec::with_capacity(items.len());
        for payload in items {
            let key = payload.is_object().then(|| pointer::record_key(&payload, &list.request.key)).flatten();
            let Some(key) = key else {
                self.stats.failed += 1;
                continue;
            };
            let rule = list.request.bookmark.as_ref();
            if let Some(mark) = rule.and_then(|rule| payload.pointer(&rule.field)).and_then(Mark::of) {
                list.highest = Some(match list.highest.take() {
                    None => mark,
                    Some(highest) => highest.higher(mark).map_err(|(a, b)| mixed(source, list.resource, &a, &b))?,
                });
            }
            records.push(Record { key, payload });
        }
        Ok(records)
    }

    /// The bookmark of an earlier run, if it belongs to this very request.
    async fn known(&self, resource: &Resource, request: &str) -> Result<Option<Mark>, ImportFailure> {
        let stored = self.context.sink.bookmark(resource.clone()).await.map_err(|error| store_failed(&error))?;
        // One that cannot be read is from another time: reading everything again is always right.
        let stored = stored.and_then(|value| serde_json::from_value::<Bookmark>(value).ok());
        Ok(stored.filter(|stored| stored.request == request).and_then(|stored| Mark::of(&stored.value)))
    }

    async fn write(
        &mut self,
        resource: &Resource,
        records: Vec<Record>,
        bookmark: Option<Value>,
    ) -> Result<(), ImportFailure> {
        if records.is_empty() && bookmark.is_none() {
            return Ok(());
        }
        let page = Page { resource: resource.clone(), records, bookmark };
        self.stats += self.context.sink.write_page(page).await.map_err(|error| store_failed(&error))?;
        Ok(())
    }
}

/// Names a request by all that decides which records it brings.
fn digest(base: &Url, request: &HttpRequest) -> String {
    let field = request.bookmark.as_ref().map(|bookmark| (&bookmark.field, &bookmark.start));
    let parts = json!([
        base.as_str(),
        request.method,
        request.path,
        request.query,
        request.body,
        request.records,
        request.key,
        field
    ]);
    let mut name = Digest::of(parts.to_string().as_bytes()).to_hex();
    name.truncate(16);
    name
}

/// Asks for the page that the list is at: its answer, and where the header `Link` leads.
async fn ask(source: &mut Source<'_>, list: &mut List<'_>) -> Result<(Value, Option<String>), ImportFailure> {
    list.pages.fill(&mut list.values);
    let url = match list.pages.address() {
        Some(next) => next_address(source, list, next)?,
        None => own_address(source, list)?,
    };
    let body = match list.request.method {
        HttpMethod::Get => None,
        HttpMethod::Post => {
            let body = list.request.body.as_ref().and_then(|body| fill_value(body, &list.values));
            Some(body.unwrap_or_else(|| json!({})).to_string().into_bytes())
        }
    };
    let what = format!("{} (page {})", list.resource, list.pages.number());
    let Reply { url, content_type, next, body } = source.ask(what, url, body).await?;
    // The address that was asked in the end is what others are relative to.
    let link = next.map(|next| url.join(&next).map_or(next, String::from));
    if body.is_empty() {
        return Ok((Value::Null, link));
    }
    let answer = serde_json::from_slice(&body).map_err(|error| {
        let message = format!(
            "{} answered {} with something that is no JSON ({content_type}): {error}",
            source.host(),
            place_of(list)
        );
        ImportFailure::new(ErrorClass::BadResponse, message)
    })?;
    Ok((answer, link))
}

fn own_address(source: &Source<'_>, list: &List<'_>) -> Result<Url, ImportFailure> {
    let path = fill_path(&list.request.path, &list.values).unwrap_or_default();
    let text = format!("{}{path}", source.base().as_str().trim_end_matches('/'));
    let mut url = Url::parse(&text)
        .ok()
        .filter(|url| source.is_own(url))
        .ok_or_else(|| configuration(format!("the path of {} in {} is none", list.resource, source.file())))?;
    let query = list.request.query.iter();
    let filled = query.filter_map(|(name, text)| Some((name.as_str(), fill(text, &list.values)?)));
    let pairs: Vec<(&str, String)> = filled.chain(list.pages.parameters()).collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

/// The next page's address as the source gave it: on its own host, for there the secrets go with it.
fn next_address(source: &Source<'_>, list: &List<'_>, next: &str) -> Result<Url, ImportFailure> {
    // Relative ones continue the list's own address.
    let url = own_address(source, list)?.join(next).ok().filter(|url| source.is_own(url));
    url.ok_or_else(|| {
        let host = source.host();
        let message = format!(
            "{host} leads from {} to an address that is not its own, where nothing is sent; nothing was marked as read",
            place_of(list)
        );
        ImportFailure::new(ErrorClass::BadResponse, message)
    })
}

/// The list of records in an answer; `null` is an empty one.
fn find_records<'v>(source: &Source<'_>, list: &List<'_>, answer: &'v Value) -> Result<&'v [Value], ImportFailure> {
    let place = &list.request.records;
    let found = pointer::find(answer, place).and_then(|found| match found {
        Value::Array(items) => Ok(items.as_slice()),
        Value::Null => Ok(&[][..]),
        other => Err(format!("{} there is {}, not a list", pointer::place(place), pointer::kind(other))),
    });
    // An answer without any content has no place in it either.
    let found = if answer.is_null() { Ok(&[][..]) } else { found };
    found.map_err(|found| {
        let message = format!(
            "{} answered {} with something else than its records: {}; check records in {}",
            source.host(),
            place_of(list),
            source.quote(&found),
            source.file()
        );
        ImportFailure::new(ErrorClass::BadResponse, message)
    })
}

/// The records, without copying them.
fn taken(mut answer: Value, place: &str) -> Vec<Value> {
    match answer.pointer_mut(place).map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn place_of(list: &List<'_>) -> String {
    format!("{} (page {})", list.resource, list.pages.number())
}

fn without_end(source: &Source<'_>, list: &List<'_>, endless: &Endless) -> ImportFailure {
    let message = format!(
        "{} does not come to an end with {}: it {endless}; nothing was marked as read, check paging in {}",
        source.host(),
        place_of(list),
        source.file()
    );
    ImportFailure::new(ErrorClass::BadResponse, message)
}

fn mixed(source: &Source<'_>, resource: &Resource, a: &Mark, b: &Mark) -> ImportFailure {
    let message = format!(
        "{} has {} in one record of {resource} and {} in another where the bookmark is: choose another field in {}",
        source.host(),
        a.kind(),
        b.kind(),
        source.file()
    );
    ImportFailure::new(ErrorClass::BadResponse, message)
}

fn store_failed(error: &SinkError) -> ImportFailure {
    ImportFailure::new(ErrorClass::Store, error.to_string())
}
