//! A small HTTP server of a test's own: what it answers is a function, what it was asked is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// By names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    /// A parameter of the address or of a form, as it is written there.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.path.split_once('?').map_or(self.body.as_str(), |(_, query)| query);
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub enum Body {
    Text(String),
    /// Begins with this and never ends.
    Endless(String),
    /// Ends before it is whole.
    Cut(String),
    /// Nothing ever comes.
    Hang,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Body::Text(String::new()) }
    }

    pub fn json(value: &Value) -> Self {
        Answer { body: Body::Text(value.to_string()), ..Answer::status(200) }.header("content-type", "application/json")
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, seen) = (Arc::new(answer), asked.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (answer, seen) = (answer.clone(), seen.clone());
                tokio::spawn(async move { serve(stream, answer.as_ref(), &seen).await });
            }
        });
        Server { url, asked, task }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }
}

async fn serve(mut stream: TcpStream, answer: &(dyn Fn(&Asked) -> Answer + Send + Sync), seen: &Mutex<Vec<Asked>>) {
    let Some(asked) = read(&mut stream).await else { return };
    let Answer { status, headers, body } = answer(&asked);
    seen.lock().unwrap().push(asked);
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let (length, text) = match &body {
        Body::Text(text) => (Some(text.len()), text.clone()),
        Body::Cut(text) => (Some(text.len() + 100), text.clone()),
        Body::Endless(text) => (None, text.clone()),
        Body::Hang => return tokio::time::sleep(std::time::Duration::from_secs(600)).await,
    };
    if let Some(length) = length {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n{text}").as_bytes()).await;
    if matches!(body, Body::Endless(_)) {
        while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
    }
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        // One that comes twice counts as many servers count it: as a list.
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let known = headers.entry(name.to_ascii_lowercase());
            known.and_modify(|all| *all = format!("{all}, {value}")).or_insert_with(|| value.to_owned());
        }
        let length = headers.get("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        if body.len() >= length {
            let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
            return Some(Asked { method, path, headers, body: body.to_owned() });
        }
    }
}
