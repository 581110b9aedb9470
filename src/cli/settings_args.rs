//! One flag for each setting, made from the table of settings, so that neither can forget one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::CliError;
use crate::settings::{Inputs, KEYS, Loaded, load};

/// The flags that were given, as texts: the settings' own loader judges them all at once.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingsArgs {
    flags: BTreeMap<&'static str, String>,
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = SettingsArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS.iter().filter(|key| !key.secret) {
            if let Some(text) = matches.get_one::<String>(key.name) {
                self.flags.insert(key.name, text.clone());
            }
        }
        Ok(())
    }
}

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let defaults = crate::settings::Settings::default();
        KEYS.iter().filter(|key| !key.secret).fold(command, |command, key| {
            let default = match (key.show)(&defaults) {
                none if none.is_empty() => "none".to_owned(),
                value => value,
            };
            command.arg(
                Arg::new(key.name)
                    .long(key.flag)
                    .value_name(key.value)
                    .help(format!("{} [env: {}] [default: {default}]", key.help, key.env))
                    .help_heading("Settings")
                    .allow_negative_numbers(true)
                    .num_args(1),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingsArgs::augment_args(command)
    }
}

impl SettingsArgs {
    /// The settings that hold, by flags, environment and file.
    pub fn load(&self, file: Option<PathBuf>) -> Result<Loaded, CliError> {
        let file = match file {
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(CliError::read(&path))?;
                Some((path, text))
            }
            None => None,
        };
        let variable = |name: &str| std::env::var_os(name);
        let names = std::env::vars_os().filter_map(|(name, _): (OsString, _)| name.into_string().ok()).collect();
        Ok(load(&Inputs { flags: self.flags.clone(), env: &variable, env_names: names, file })?)
    }
}
