//! A destination's URL: `file:///folder` or `s3://bucket/prefix?region=…&endpoint=…`. No credentials stand in it:
//! they come from the environment, or by reference.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use super::SharedPlace;
use super::folder::FolderPlace;
use super::place::PlaceError;
use super::s3::S3Place;
use crate::adapters::secrets::Secrets;
use crate::core::model::{EnvSecret, FileSecret, SecretRef};

/// Where the copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The URL, in which there is no secret.
    shown: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder(PathBuf),
    S3(S3),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct S3 {
    pub bucket: String,
    pub prefix: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub virtual_hosted: bool,
    pub access_key: Option<SecretRef>,
    pub secret_key: Option<SecretRef>,
}

const FORMS: &str = "allowed are file:///FOLDER and s3://BUCKET/PREFIX?region=REGION&endpoint=URL";

impl Destination {
    /// # Errors
    /// Says what is wrong with the URL and what is allowed.
    pub fn parse(text: &str) -> Result<Destination, String> {
        let url = Url::parse(text).map_err(|_| FORMS.to_owned())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(credentials());
        }
        let kind = match url.scheme() {
            "file" => {
                let is_plain = url.query().is_none() && url.fragment().is_none();
                let folder = url.to_file_path().ok().filter(|_| is_plain);
                Kind::Folder(folder.ok_or("a file URL names an absolute folder of this machine: file:///FOLDER")?)
            }
            "s3" => Kind::S3(s3(&url)?),
            _ => return Err(FORMS.to_owned()),
        };
        Ok(Destination { shown: text.to_owned(), kind })
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What reads and writes there. Nothing is asked of the destination yet.
    ///
    /// # Errors
    /// When a secret that the URL refers to is missing, or the URL does not fit together.
    pub fn open(&self, secrets: &Secrets) -> Result<SharedPlace, PlaceError> {
        match &self.kind {
            Kind::Folder(folder) => Ok(Arc::new(FolderPlace::new(folder.clone()))),
            Kind::S3(s3) => Ok(Arc::new(S3Place::new(s3, secrets)?)),
        }
    }
}

fn credentials() -> String {
    "no credentials belong in the URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or name \
     them with access_key=env:CC_SECRET_NAME (or file:NAME) and secret_key=…"
        .to_owned()
}

fn s3(url: &Url) -> Result<S3, String> {
    let bucket =
        url.host_str().filter(|host| !host.is_empty()).ok_or("an s3 URL names a bucket: s3://BUCKET/PREFIX")?;
    let prefix = url.path().trim_matches('/');
    if prefix.split('/').any(|part| part == "." || part == "..") || prefix.contains("//") {
        return Err("the prefix of an s3 URL is a plain path".to_owned());
    }
    let mut s3 = S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..S3::default() };
    let mut seen = BTreeMap::new();
    for (key, value) in url.query_pairs() {
        if seen.insert(key.to_string(), ()).is_some() {
            return Err(format!("{key} stands twice in the URL"));
        }
        let filled = || Some(value.to_string()).filter(|value| !value.is_empty());
        match &*key {
            "endpoint" => {
                let endpoint = Url::parse(&value).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
                let endpoint = endpoint.ok_or("endpoint is an http or https URL")?;
                if !endpoint.username().is_empty() || endpoint.password().is_some() {
                    return Err(credentials());
                }
                s3.endpoint = Some(value.trim_end_matches('/').to_owned());
            }
            "region" => s3.region = filled(),
            "style" => match &*value {
                "path" => s3.virtual_hosted = false,
                "virtual" => s3.virtual_hosted = true,
                _ => return Err("style is path or virtual".to_owned()),
            },
            "access_key" => s3.access_key = Some(reference(&value)?),
            "secret_key" => s3.secret_key = Some(reference(&value)?),
            _ => {
                return Err(format!(
                    "{key} is no part of an s3 URL; allowed are region, endpoint, style, access_key, secret_key"
                ));
            }
        }
    }
    if s3.access_key.is_some() != s3.secret_key.is_some() {
        return Err("access_key and secret_key go together".to_owned());
    }
    Ok(s3)
}

fn reference(text: &str) -> Result<SecretRef, String> {
    match text.split_once(':') {
        Some(("env", name)) => Ok(SecretRef::Env(EnvSecret { env: name.to_owned() })),
        Some(("file", name)) => Ok(SecretRef::File(FileSecret { file: name.to_owned() })),
        _ => Err(credentials()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_and_no_secret() {
        let shown = |text: &str| Destination::parse(text).map(|d| d.shown().to_owned());
        #[cfg(unix)]
        assert_eq!(shown("file:///var/replica"), Ok("file:///var/replica".into()));
        assert!(shown("s3://bucket/a/b?region=eu-1&endpoint=http://127.0.0.1:9000&style=path").is_ok());
        assert!(shown("s3://bucket?access_key=env:CC_SECRET_A&secret_key=file:b").is_ok());
        for (bad, word) in [
            ("nonsense", "allowed are"),
            ("http://h/x", "allowed are"),
            ("s3://key:secret@bucket/x", "no credentials"),
            ("s3://bucket/x?secret_key=abcdef&access_key=env:CC_SECRET_A", "no credentials"),
            ("s3://bucket/x?access_key=env:CC_SECRET_A", "go together"),
            ("s3://bucket/x?endpoint=ftp://h", "endpoint"),
            ("s3://bucket/x?endpoint=http://u:p@h", "no credentials"),
            ("s3://bucket/x?regoin=a", "regoin"),
            ("s3://bucket/x?region=a&region=b", "twice"),
            // On Windows a share is a folder like another.
            #[cfg(unix)]
            ("file://host/share", "absolute folder"),
            ("file:///x?y=z", "absolute folder"),
        ] {
            let told = shown(bad).expect_err(bad);
            assert!(told.contains(word), "{bad}: {told}");
            assert!(!told.contains("abcdef"), "{told}");
        }
    }
}
