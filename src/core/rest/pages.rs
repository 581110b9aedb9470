//! From one page to the next: what a request carries, and when a list is at its end, or has none.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::template::{Values, plain};
use crate::core::model::{HttpPaging, HttpRequest};

/// Where the reading of a list stands.
#[derive(Debug)]
pub struct Pages<'r> {
    paging: Option<&'r HttpPaging>,
    most: u32,
    /// Pages asked for so far.
    asked: u32,
    /// Records received so far.
    received: u64,
    page: u64,
    cursor: Option<Value>,
    next: Option<String>,
    /// Hashes of the contents and of the ways to go on that have been met.
    met: HashSet<u64>,
}

/// Why a list cannot be read to its end; what was read is kept, nothing is marked as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endless {
    /// The same records again.
    SameRecords,
    /// The same cursor or address again.
    SameCursor,
    /// It says that there is more, and gives nothing.
    Nothing,
    /// More pages than are allowed.
    TooMany(u32),
}

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endless::SameRecords => f.write_str("gives the same records again"),
            Endless::SameCursor => f.write_str("leads back to a page that was read already"),
            Endless::Nothing => f.write_str("says that there is more and gives nothing"),
            Endless::TooMany(most) => write!(f, "has more than {most} pages (max_pages)"),
        }
    }
}

impl<'r> Pages<'r> {
    pub fn new(request: &'r HttpRequest) -> Self {
        let page = match &request.paging {
            Some(HttpPaging::Page(paging)) => paging.first.unwrap_or(1).into(),
            _ => 1,
        };
        Pages {
            paging: request.paging.as_ref(),
            most: request.max_pages.unwrap_or(HttpRequest::MOST_PAGES),
            asked: 0,
            received: 0,
            page,
            cursor: None,
            next: None,
            met: HashSet::new(),
        }
    }

    /// The number of the page that is being read, from 1.
    pub fn number(&self) -> u32 {
        self.asked
    }

    /// Goes about one more page.
    ///
    /// # Errors
    /// When that were one too many.
    pub fn turn(&mut self) -> Result<(), Endless> {
        if self.asked >= self.most {
            return Err(Endless::TooMany(self.most));
        }
        self.asked += 1;
        Ok(())
    }

    /// Sets what placeholders stand for on this page.
    pub fn fill(&self, values: &mut Values) {
        values.cursor = self.cursor.clone();
        match self.paging {
            Some(HttpPaging::Offset(paging)) => (values.offset, values.limit) = (Some(self.received), paging.limit),
            Some(HttpPaging::Page(paging)) => (values.page, values.limit) = (Some(self.page), paging.size),
            _ => {}
        }
    }

    /// The parameters that carry this page's place.
    pub fn parameters(&self) -> Vec<(&'r str, String)> {
        let pairs = match self.paging {
            Some(HttpPaging::Cursor(paging)) => [(&paging.param, self.cursor.as_ref().map(plain)), (&None, None)],
            Some(HttpPaging::Offset(paging)) => {
                let limit = paging.limit.map(|limit| limit.to_string());
                [(&paging.param, Some(self.received.to_string())), (&paging.limit_param, limit)]
            }
            Some(HttpPaging::Page(paging)) => {
                let size = paging.size.map(|size| size.to_string());
                [(&paging.param, Some(self.page.to_string())), (&paging.size_param, size)]
            }
            _ => return Vec::new(),
        };
        pairs.into_iter().filter_map(|(name, value)| Some((name.as_deref()?, value?))).collect()
    }

    /// The address of this page, where the page before gave one.
    pub fn address(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Takes in a page and goes on to the next; `false` at the end of the list. `link` is the answer's header.
    ///
    /// # Errors
    /// When it will not come to an end.
    pub fn advance(&mut self, answer: &Value, records: &[Value], link: Option<&str>) -> Result<bool, Endless> {
        let Some(paging) = self.paging else { return Ok(false) };
        let count = records.len() as u64;
        if count > 0 && !self.met.insert(hash_of("records", records)) {
            return Err(Endless::SameRecords);
        }
        self.received = self.received.saturating_add(count);
        match paging {
            HttpPaging::Cursor(paging) => {
                let cursor = match (&paging.at, &paging.last) {
                    (Some(at), _) => answer.pointer(at),
                    (None, Some(field)) => records.last().and_then(|record| record.pointer(field)),
                    (None, None) => None,
                };
                let cursor = cursor.filter(|cursor| is_cursor(cursor));
                if said(answer, paging.more.as_deref()) == Some(false) {
                    return Ok(false);
                }
                self.cursor = cursor.cloned();
                self.unmet(cursor.map(plain))
            }
            HttpPaging::Offset(paging) => self.counted(answer, count, paging.more.as_deref(), paging.total.as_deref()),
            HttpPaging::Page(paging) => {
                self.page = self.page.saturating_add(1);
                self.counted(answer, count, paging.more.as_deref(), paging.total.as_deref())
            }
            HttpPaging::Link(_) => {
                self.next = link.map(str::to_owned);
                self.unmet(self.next.clone())
            }
            HttpPaging::NextUrl(at) => {
                let next = answer.pointer(at).and_then(Value::as_str).filter(|next| !next.is_empty());
                self.next = next.map(str::to_owned);
                self.unmet(self.next.clone())
            }
        }
    }

    /// Whether there is a way on, and one that was not gone before.
    fn unmet(&mut self, way: Option<String>) -> Result<bool, Endless> {
        match way {
            None => Ok(false),
            Some(way) if self.met.insert(hash_of("way", &way)) => Ok(true),
            Some(_) => Err(Endless::SameCursor),
        }
    }

    /// Whether a list that is counted through goes on: to an empty page, unless the answer says more.
    fn counted(&self, answer: &Value, count: u64, more: Option<&str>, total: Option<&str>) -> Result<bool, Endless> {
        match said(answer, more) {
            Some(false) => return Ok(false),
            Some(true) if count == 0 => return Err(Endless::Nothing),
            _ => {}
        }
        let total = total.and_then(|at| answer.pointer(at)).and_then(number);
        Ok(count > 0 && total.is_none_or(|total| self.received < total))
    }
}

/// What an answer says of whether there is more.
fn said(answer: &Value, more: Option<&str>) -> Option<bool> {
    match answer.pointer(more?)? {
        Value::Bool(more) => Some(*more),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn is_cursor(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        _ => false,
    }
}

fn hash_of(kind: &str, what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(paging: Value) -> HttpRequest {
        serde_json::from_value(json!({ "path": "/x", "key": ["/id"], "paging": paging, "max_pages": 50 })).unwrap()
    }

    /// The ways asked for until the list ends, from answers to them.
    fn walk(paging: Value, answer: impl Fn(&str) -> Value) -> Result<Vec<String>, Endless> {
        let request = request(paging);
        let mut pages = Pages::new(&request);
        let mut asked = Vec::new();
        loop {
            pages.turn()?;
            let parameters = pages.parameters();
            let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let way = pages.address().map_or_else(|| pairs.join("&"), str::to_owned);
            let answer = answer(&way);
            asked.push(way);
            let records = answer["items"].as_array().cloned().unwrap_or_default();
            if !pages.advance(&answer, &records, answer["link"].as_str())? {
                return Ok(asked);
            }
        }
    }

    fn items(from: u64, to: u64) -> Value {
        (from..to).map(|id| json!({ "id": id })).collect()
    }

    #[test]
    fn cursors_lead_on() {
        let at = json!({ "cursor": { "at": "/next", "param": "after" } });
        let answer = |way: &str| match way {
            "" => json!({ "items": items(0, 2), "next": "b" }),
            "after=b" => json!({ "items": [], "next": 7 }),
            _ => json!({ "items": items(2, 3), "next": null }),
        };
        assert_eq!(walk(at.clone(), answer), Ok(vec!["".into(), "after=b".into(), "after=7".into()]));
        let last = json!({ "cursor": { "last": "/id", "param": "after", "more": "/more" } });
        let answer =
            |way: &str| json!({ "items": items(way.len() as u64, way.len() as u64 + 2), "more": way.is_empty() });
        assert_eq!(walk(last, answer), Ok(vec!["".into(), "after=1".into()]));
        let same = |way: &str| json!({ "items": items(way.len() as u64 * 10, 99), "next": "b" });
        assert_eq!(walk(at, same), Err(Endless::SameCursor));
    }

    #[test]
    fn counting_ends_with_an_empty_page_or_where_the_answer_says_so() {
        let offset = json!({ "offset": { "param": "skip", "limit_param": "take", "limit": 2 } });
        let three = |way: &str| {
            let skip: u64 = way.split(['=', '&']).nth(1).unwrap().parse().unwrap();
            json!({ "items": items(skip.min(3), (skip + 2).min(3)), "total": 3, "more": skip < 2 })
        };
        let ways = walk(offset, three).unwrap();
        assert_eq!(ways, ["skip=0&take=2", "skip=2&take=2", "skip=3&take=2"]);
        for told in ["total", "more"] {
            let mut paging = json!({ "offset": { "param": "skip" } });
            paging["offset"][told] = format!("/{told}").into();
            assert_eq!(walk(paging, three).unwrap(), ["skip=0", "skip=2"]);
        }
        let page = json!({ "page": { "param": "p", "first": 0, "size_param": "n", "size": 2 } });
        let answer = |way: &str| json!({ "items": if way.contains("p=1") { items(0, 0) } else { items(0, 2) } });
        assert_eq!(walk(page, answer).unwrap(), ["p=0&n=2", "p=1&n=2"]);
    }

    #[test]
    fn addresses_lead_on() {
        let answer = |way: &str| match way {
            "" => json!({ "items": items(0, 1), "link": "/b", "next": "/b" }),
            _ => json!({ "items": items(1, 2), "next": "" }),
        };
        for paging in [json!({ "link": true }), json!({ "next_url": "/next" })] {
            assert_eq!(walk(paging, answer), Ok(vec!["".into(), "/b".into()]));
        }
    }

    #[test]
    fn no_list_is_read_for_ever() {
        let page = json!({ "page": { "param": "p" } });
        assert_eq!(walk(page.clone(), |_| json!({ "items": items(0, 2) })), Err(Endless::SameRecords));
        let new = |way: &str| json!({ "items": [way] });
        assert_eq!(walk(page, new), Err(Endless::TooMany(50)));
        let more = json!({ "offset": { "param": "skip", "more": "/more" } });
        assert_eq!(walk(more, |_| json!({ "items": [], "more": true })), Err(Endless::Nothing));
    }

    #[test]
    fn without_paging_there_is_one_page() {
        let request = HttpRequest { paging: None, ..request(json!({ "link": true })) };
        let mut pages = Pages::new(&request);
        pages.turn().unwrap();
        assert_eq!(pages.advance(&json!([1]), &[json!(1)], Some("/b")), Ok(false));
        assert_eq!((pages.number(), pages.parameters().len()), (1, 0));
    }
}
