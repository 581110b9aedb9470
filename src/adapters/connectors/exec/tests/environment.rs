//! What a program gets to see, and which may run at all.

use super::*;

#[tokio::test]
async fn a_program_sees_what_it_is_given_and_nothing_else() {
    let site = Site::new(
        "here=$(dirname $0); env | sort > $here/env; pwd > $here/pwd; echo \"$@\" > $here/arguments
         cat > $here/stdin; ls -l $4 > $here/mode; cp $4 $here/copy; cp $6 $here/catalog; echo '{\"imported\":0}'",
    );
    std::fs::write(site.at("key"), "hunter2-hunter2\n").unwrap();
    let outcome = site
        .import(json!({
            "command": ["tap", "a b", "$HOME;*", "--config", "{{config}}", "--cat={{catalog}}"],
            "config": {"url": "http://127.0.0.1", "auth": [{"key": {"file": "key"}}]},
            "catalog": {"streams": []},
            "env": {"TAP_MODE": "full", "TAP_KEY": {"file": "key"}},
        }))
        .await;
    // `$6` is not there: the catalog's path is part of a word.
    assert!(outcome.error.is_none(), "{outcome:?}");
    let home = site.read("pwd");
    let home = home.trim();
    assert!(home.starts_with(&site.at("exec/run-")), "{home}");
    let arguments = format!("a b $HOME;* --config {home}/config.json --cat={home}/catalog.json\n");
    assert_eq!(site.read("arguments"), arguments);
    assert_eq!(site.read("copy"), r#"{"auth":[{"key":"hunter2-hunter2"}],"url":"http://127.0.0.1"}"#);
    assert!(site.read("mode").starts_with("-rw------- "), "{}", site.read("mode"));
    assert_eq!(site.read("stdin"), "");
    assert!(!Path::new(home).exists());
    // The shell itself adds these.
    let own = |line: &&str| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|name| line.starts_with(name));
    let environment = site.read("env");
    let path = format!("PATH={}:/usr/bin:/bin", site.folder.path().display());
    assert_eq!(
        environment.lines().filter(own).collect::<Vec<_>>(),
        [
            "COMMAND_CENTER_NOMINAL_TIME=2026-11-18T11:06:40.000Z",
            "COMMAND_CENTER_RUN_ID=7",
            "COMMAND_CENTER_TENANT=peak",
            &format!("HOME={home}"),
            "LANG=C.UTF-8",
            &path,
            "TAP_KEY=hunter2-hunter2",
            "TAP_MODE=full",
            &format!("TMPDIR={home}"),
            "TZ=UTC",
        ]
    );
}

#[tokio::test]
async fn secrets_are_not_repeated() {
    let site = Site::new("cat $2; cat $2 >&2; echo \"key is $KEY\" >&2; exit 1");
    std::fs::write(site.at("key"), "p\"w of mine").unwrap();
    let connection = json!({
        "command": ["tap"], "config": {"a": {"file": "key"}}, "env": {"KEY": {"file": "key"}}, "protocol": "singer",
    });
    let outcome = site.import(connection).await;
    refused(&outcome, ErrorClass::Unavailable, "key is ***");
    let log = outcome.log.unwrap();
    assert!(log.contains(r#"{"a":"***"}"#) && !log.contains("of mine"), "{log}");
    let site = Site::new("echo \"{\\\"a\\\": \\\"$KEY\\\"}\"");
    std::fs::write(site.at("key"), "swordfish").unwrap();
    let connection = json!({"command": ["tap"], "env": {"KEY": {"file": "key"}}, "protocol": "singer"});
    refused(&site.import(connection).await, ErrorClass::BadResponse, r#"{"a": "***"}"#);
}

#[tokio::test]
async fn a_secret_that_is_not_there_starts_nothing() {
    let site = Site::new("touch $(dirname $0)/started");
    for connection in [
        json!({"command": ["tap"], "config": {"a": {"b": {"file": "gone"}}}}),
        json!({"command": ["tap"], "env": {"A": {"file": "gone"}}}),
    ] {
        refused(&site.import(connection).await, ErrorClass::Configuration, "gone");
    }
    assert!(!Path::new(&site.at("started")).exists());
}

#[tokio::test]
async fn what_is_not_listed_does_not_run() {
    let site = Site::new("echo '{\"imported\":1}'");
    site.program("other", "touch $(dirname $0)/started; echo '{\"imported\":1}'");
    std::os::unix::fs::symlink(site.at("other"), site.at("alias")).unwrap();
    std::fs::create_dir(site.at("sub")).unwrap();
    for program in ["other", "alias", "sh", "/bin/sh", &site.at("other"), &site.at("sub/../other")] {
        let outcome = site.import(json!({"command": [program]})).await;
        refused(&outcome, ErrorClass::Configuration, "add it to COMMAND_CENTER_EXEC_ALLOW (--exec-allow)");
    }
    for program in ["./tap", "../tap", "sub/../tap", "gone"] {
        refused(&site.import(json!({"command": [program]})).await, ErrorClass::Configuration, "PATH");
    }
    assert!(!Path::new(&site.at("started")).exists());
    assert!(site.import(json!({"command": [site.at("sub/../tap")]})).await.error.is_none());
    refused(&site.import(json!({})).await, ErrorClass::Configuration, "connection.command is missing");
}

#[tokio::test]
async fn a_program_that_cannot_start_says_why() {
    let site = Site::new("");
    std::fs::write(site.at("tap"), "#!/no/such/interpreter\n").unwrap();
    refused(&site.tap().await, ErrorClass::Configuration, "could not start");
}
