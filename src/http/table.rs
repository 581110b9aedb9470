//! One entry per route: its handler, who may call it, and what the OpenAPI document says of it.
//! The gate enforces what stands here, so code and document cannot disagree.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::access::{Gate, pass};
use super::idempotency::InFlight;
use crate::app::App;
use crate::core::access::Role;

/// The largest body of an ordinary request, bytes.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// Makes a type's schema, putting what it refers to among the generator's definitions.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Post => "post",
            Verb::Delete => "delete",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
            Verb::Delete => MethodFilter::DELETE,
        }
    }
}

/// Where a parameter stands, in the order in which the pages list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Path,
    Query,
    Header,
}

/// A parameter; `schema` is plain JSON Schema.
#[derive(Clone, Debug)]
pub struct Param {
    pub name: &'static str,
    pub place: Place,
    pub about: &'static str,
    pub required: bool,
    pub schema: Value,
}

/// A request's body.
pub struct Body {
    pub shape: Shape,
    pub required: bool,
    pub example: Value,
}

/// One way a request can be answered.
pub struct Outcome {
    pub status: u16,
    pub about: &'static str,
    pub media: &'static str,
    /// `None` where the body has no schema: text, files.
    pub shape: Option<Shape>,
}

/// What the gate needs to know of a route.
#[derive(Clone, Debug)]
pub struct Facts {
    pub template: &'static str,
    pub verb: Verb,
    /// `None` is public.
    pub needs: Option<Role>,
    pub query: Vec<&'static str>,
    /// Probes and pages ignore a query that they do not know.
    pub loose_query: bool,
    /// Changes something: takes `Idempotency-Key` and `x-source`, and is not cut off when its
    /// caller hangs up.
    pub mutation: bool,
    pub body_limit: usize,
    /// The part of the program, for the log.
    pub component: &'static str,
}

pub struct Route {
    pub facts: Facts,
    pub tag: &'static str,
    pub summary: &'static str,
    pub about: &'static str,
    pub params: Vec<Param>,
    pub body: Option<Body>,
    pub outcomes: Vec<Outcome>,
    handler: MethodRouter<Arc<App>>,
}

impl Route {
    fn new<H, T>(verb: Verb, template: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let facts = Facts {
            template,
            verb,
            needs: None,
            query: Vec::new(),
            loose_query: false,
            mutation: false,
            body_limit: BODY_LIMIT,
            component: "http",
        };
        let (params, outcomes) = (Vec::new(), Vec::new());
        let handler = on(verb.filter(), handler);
        Route { facts, tag: "", summary: "", about: "", params, body: None, outcomes, handler }
    }

    pub fn get<H: Handler<T, Arc<App>>, T: 'static>(template: &'static str, handler: H) -> Self {
        Route::new(Verb::Get, template, handler)
    }

    pub fn post<H: Handler<T, Arc<App>>, T: 'static>(template: &'static str, handler: H) -> Self {
        Route::new(Verb::Post, template, handler)
    }

    pub fn delete<H: Handler<T, Arc<App>>, T: 'static>(template: &'static str, handler: H) -> Self {
        Route::new(Verb::Delete, template, handler)
    }

    /// Where the API pages list it, and the part of the program that the log names.
    pub fn under(mut self, tag: &'static str, component: &'static str) -> Self {
        self.tag = tag;
        self.facts.component = component;
        self
    }

    pub fn says(mut self, summary: &'static str, about: &'static str) -> Self {
        (self.summary, self.about) = (summary, about);
        self
    }

    pub fn needs(mut self, role: Role) -> Self {
        self.facts.needs = Some(role);
        self
    }

    /// See [`Facts::mutation`].
    pub fn mutation(mut self) -> Self {
        self.facts.mutation = true;
        self.params.extend(super::idempotency::params());
        self
    }

    pub fn loose(mut self) -> Self {
        self.facts.loose_query = true;
        self
    }

    pub fn limit(mut self, bytes: usize) -> Self {
        self.facts.body_limit = bytes;
        self
    }

    pub fn query(self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.param(Param { name, place: Place::Query, about, required: false, schema })
    }

    pub fn param(mut self, param: Param) -> Self {
        if param.place == Place::Query {
            self.facts.query.push(param.name);
        }
        self.params.push(param);
        self
    }

    pub fn body<T: JsonSchema>(mut self, required: bool, example: Value) -> Self {
        self.body = Some(Body { shape: SchemaGenerator::subschema_for::<T>, required, example });
        self
    }

    pub fn answers<T: JsonSchema>(mut self, status: u16, about: &'static str) -> Self {
        let shape: Shape = SchemaGenerator::subschema_for::<T>;
        self.outcomes.push(Outcome { status, about, media: "application/json", shape: Some(shape) });
        self
    }

    pub fn answers_media(mut self, status: u16, media: &'static str, about: &'static str) -> Self {
        self.outcomes.push(Outcome { status, about, media, shape: None });
        self
    }

    /// An error particular to this route; those that follow from its access and parameters are
    /// added by the document's writer.
    pub fn fails(mut self, status: u16, about: &'static str) -> Self {
        self.outcomes.push(Outcome { status, about, media: super::problem::PROBLEM_JSON, shape: None });
        self
    }

    /// Adds the route behind its gate.
    pub fn mount(self, router: Router<Arc<App>>, app: &Arc<App>, in_flight: &InFlight) -> Router<Arc<App>> {
        let template = self.facts.template;
        let gate = Arc::new(Gate { app: app.clone(), facts: self.facts, in_flight: in_flight.clone() });
        router.route(template, self.handler.route_layer(from_fn_with_state(gate, pass)))
    }
}
