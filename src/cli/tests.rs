//! The command line as a whole: its definition, its exit codes, its way with errors.

use super::*;

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["command-center"].iter().chain(arguments))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

/// Every command and subcommand that does something.
fn commands(command: &clap::Command, found: &mut Vec<clap::Command>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        found.push(sub.clone());
        commands(sub, found);
    }
}

#[test]
fn every_command_has_an_example_that_it_would_take() {
    let mut found = Vec::new();
    commands(&Cli::command(), &mut found);
    assert!(found.len() > 20, "{}", found.len());
    for command in found {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example"), "{} has no example", command.get_name());
        for line in help.lines().filter_map(|line| line.trim().strip_prefix("command-center ")) {
            let line = line.split("   ").next().unwrap_or(line).split(['|', '>']).next().unwrap_or(line);
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert!(parse(&words).is_ok(), "{line:?} is refused: {}", parse(&words).unwrap_err());
        }
    }
}

/// Splits as a shell does, as far as the examples need it.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.trim().chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words
}

#[test]
fn every_setting_is_a_flag_of_serve_but_secrets() {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    for key in crate::settings::KEYS {
        let found = serve.get_arguments().any(|argument| argument.get_long() == Some(key.flag));
        assert_eq!(found, !key.secret, "{}", key.name);
    }
}

#[test]
fn usage_errors_exit_with_2() {
    for bad in [
        &["nope"][..],
        &["schedule", "pause"],
        &["schedule", "pause", "No Such"],
        &["schedule", "show", "a", "--connector", "nope"],
        &["audit", "list", "--limit", "5000"],
        &["audit", "export", "--format", "xml"],
        &["serve", "--sandbox-jobs", "5"],
        &["brake", "pull", "--connector", "noop"],
    ] {
        assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
    }
}

#[test]
fn exits_have_the_contracts_codes() {
    assert_eq!([Exit::Done, Exit::No, Exit::Failed].map(Exit::code), [0, 1, 2]);
    assert_eq!([Exit::yes(true), Exit::yes(false)], [Exit::Done, Exit::No]);
}

#[test]
fn no_server_is_said_with_its_address_and_how_to_start_one() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cli = parse(&["schedule", "list", "--server", &format!("http://u:hunter2@{unused}")]).unwrap();
    let error = dispatch(cli).unwrap_err();
    let hint = error.hint().unwrap();
    assert_eq!(error.to_string(), format!("no server answers at http://{unused}"));
    assert!(hint.contains("command-center serve") && !hint.contains("hunter2"), "{hint}");
}

#[test]
fn a_broken_file_is_exit_1_and_a_missing_directory_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let schedules = folder.path().join("schedules/noop");
    std::fs::create_dir_all(&schedules).unwrap();
    let validate = |path: &std::path::Path| {
        let exit = dispatch(parse(&["validate", "--output", "json", path.to_str().unwrap()]).unwrap());
        exit.map(Exit::code).map_err(|error| error.to_string())
    };
    assert_eq!(validate(folder.path()), Ok(0));
    std::fs::write(schedules.join("good.yaml"), "interval_sec: 60\n").unwrap();
    assert_eq!(validate(folder.path()), Ok(0));
    std::fs::write(schedules.join("bad.yaml"), "interval: 60\n").unwrap();
    assert_eq!(validate(folder.path()), Ok(1));
    assert_eq!(validate(&schedules), Ok(1));
    assert_eq!(validate(&schedules.join("good.yaml")), Ok(0));
    assert_eq!(validate(&schedules.join("bad.yaml")), Ok(1));
    assert!(validate(&folder.path().join("nowhere")).unwrap_err().contains("nowhere"));
}
