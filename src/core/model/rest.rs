//! How the connector `http` asks a JSON API: who it is, what it asks for, how it goes on from page to page.
//! Values that came out of `core::desired` have their pointers checked and written in one way.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SecretRef;

/// How requests prove who asks: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpAuth {
    /// `Authorization: Bearer …`
    Bearer(SecretRef),
    /// The secret in a header of its own.
    Header(HeaderAuth),
    /// The secret as a parameter of the address: only where the source has no other way.
    Query(QueryAuth),
    /// User and password (RFC 7617).
    Basic(BasicAuth),
    /// OAuth 2.0 client credentials (RFC 6749, 4.4): a token is fetched, kept until shortly before it expires, and
    /// fetched anew when it is refused.
    Oauth(OauthAuth),
}

/// The secret in a header of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderAuth {
    /// The header's name.
    #[schemars(regex(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"), example = &"X-Api-Key")]
    pub name: String,
    /// Where the secret is found; never the secret itself.
    #[schemars(example = example_secret())]
    pub secret: SecretRef,
    /// What stands before the secret, e.g. `Token ` with its blank.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), example = &"Token ")]
    pub prefix: String,
}

/// The secret as a parameter of the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryAuth {
    /// The parameter's name.
    #[schemars(length(min = 1, max = 64), example = &"api_key")]
    pub name: String,
    /// Where the secret is found; never the secret itself.
    #[schemars(example = example_secret())]
    pub secret: SecretRef,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user's name, without a colon.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[^:]+$"), example = &"importer")]
    pub user: String,
    /// Where the password is found; never the password itself.
    #[schemars(example = example_secret())]
    pub password: SecretRef,
}

/// A client that gets a token by its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OauthAuth {
    /// Where tokens are given out.
    #[schemars(
        regex(pattern = "^https?://"),
        length(max = 2048),
        example = &"https://login.example.com/oauth/token"
    )]
    pub token_url: String,
    /// The client's public name.
    #[schemars(length(min = 1, max = 256), example = &"command-center")]
    pub client_id: String,
    /// Where the client's secret is found; never the secret itself.
    #[schemars(example = example_secret())]
    pub client_secret: SecretRef,
    /// What the token is for, names with blanks between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), example = "orders:read customers:read")]
    pub scope: Option<String>,
    /// For whom the token is, where the source asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), example = "https://api.example.com")]
    pub audience: Option<String>,
}

/// How a source is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    #[default]
    Get,
    Post,
}

/// How one resource is read. Texts in `path`, `query` and `body` may hold placeholders: `{{tenant}}`, `{{run_id}}`,
/// `{{now}}`, `{{now_date}}`, `{{bookmark}}`, `{{bookmark_date}}`, `{{cursor}}`, `{{page}}`, `{{offset}}`, `{{limit}}`.
/// A parameter or a member whose placeholder has no value yet is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// `GET`, or `POST` for sources that are asked by a body.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: HttpMethod,
    /// What follows `base_url`, with its leading slash and without a query.
    #[schemars(regex(pattern = r"^/[^\s?#\\]*$"), length(max = 1024), example = &"/orders")]
    pub path: String,
    /// Parameters of the address, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = example_query())]
    pub query: BTreeMap<String, String>,
    /// What `POST` sends, as JSON. A text that is one placeholder and nothing else becomes its value, a number if it
    /// is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Where the list of records stands in an answer: a JSON pointer, or the name of a member; the answer itself
    /// when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(example = "/data/items")]
    pub records: String,
    /// What names a record within its resource: one field, or several that are joined. JSON pointers or names.
    #[schemars(length(min = 1, max = 8), example = ["id"])]
    pub key: Vec<String>,
    /// How to come to the next page; one page when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paging: Option<HttpPaging>,
    /// How to ask only for what is new; everything each time when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bookmark: Option<HttpBookmark>,
    /// A list of more pages is an endless one, 1 to 1000000; 10000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_pages: Option<u32>,
}

fn example_secret() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("env", "CC_SECRET_SHOP")])
}

fn example_query() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("updated_since", "{{bookmark}}"), ("sort", "updated_at")])
}

impl HttpRequest {
    pub const MOST_PAGES: u32 = 10_000;

    /// The size of a page that it asks for.
    pub fn page_size(&self) -> Option<u32> {
        match self.paging.as_ref()? {
            HttpPaging::Offset(paging) => paging.limit,
            HttpPaging::Page(paging) => paging.size,
            _ => None,
        }
    }
}

/// How to come from a page to the next: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpPaging {
    /// An answer names where the next one begins.
    Cursor(CursorPaging),
    /// Pages begin at a count of records; an empty page is the end.
    Offset(OffsetPaging),
    /// Pages are numbered; an empty page is the end.
    Page(PagePaging),
    /// The header `Link` with `rel="next"` (RFC 8288), on the same host.
    Link(bool),
    /// Where an answer holds the next page's address, on the same host: a JSON pointer or a name.
    #[schemars(example = "/paging/next")]
    NextUrl(String),
}

/// By a cursor that an answer gives for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorPaging {
    /// Where an answer holds the cursor: a JSON pointer or a name. Without one, or with `null`, it was the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/meta/next_cursor")]
    pub at: Option<String>,
    /// Instead of `at`: the last record's field that is the cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"id")]
    pub last: Option<String>,
    /// The parameter of the address that carries it; or write `{{cursor}}` where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"cursor")]
    pub param: Option<String>,
    /// Where an answer says `true` while there is more, `false` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/has_more")]
    pub more: Option<String>,
}

/// By counting records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OffsetPaging {
    /// The parameter of the address that carries the offset; or write `{{offset}}` where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"offset")]
    pub param: Option<String>,
    /// The parameter that carries `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"limit")]
    pub limit_param: Option<String>,
    /// How many records a page is asked to have; `{{limit}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), example = 100)]
    pub limit: Option<u32>,
    /// Where an answer says `true` while there is more, `false` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/has_more")]
    pub more: Option<String>,
    /// Where an answer counts all records, so that the empty page at the end need not be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/total")]
    pub total: Option<String>,
}

/// By counting pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagePaging {
    /// The parameter of the address that carries the page's number; or write `{{page}}` where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"page")]
    pub param: Option<String>,
    /// The first page's number; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), example = 0)]
    pub first: Option<u32>,
    /// The parameter that carries `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), example = &"per_page")]
    pub size_param: Option<String>,
    /// How many records a page is asked to have; `{{limit}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), example = 100)]
    pub size: Option<u32>,
    /// Where an answer says `true` while there is more, `false` at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/has_more")]
    pub more: Option<String>,
    /// Where an answer counts all records, so that the empty page at the end need not be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/meta/total")]
    pub total: Option<String>,
}

/// How far a resource is known: the highest value of a field, kept when a reading was complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpBookmark {
    /// The field of a record that only grows: a time (RFC 3339), a number, or a text in plain order. A JSON pointer
    /// or a name.
    #[schemars(example = &"updated_at")]
    pub field: String,
    /// What `{{bookmark}}` is before the first complete reading; without one, parameters with it are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), example = "1970-01-01T00:00:00Z")]
    pub start: Option<String>,
    /// How far `{{bookmark}}` lies before the highest value, in seconds, for sources whose clocks differ or that show
    /// changes late: 0 to 31622400. For times, and for numbers that are seconds.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 0, max = 31_622_400), example = 60)]
    pub overlap_sec: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
