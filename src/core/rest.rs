//! What the connector `http` decides without asking anyone: templates filled in, records found and named,
//! bookmarks compared.

pub mod bookmark;
pub mod link;
pub mod pages;
pub mod pointer;
pub mod template;
