//! The commented configuration that `hearth generate-config` prints.

use ruma::ServerName;

/// A configuration for `server_name` in which every setting is explained.
#[must_use]
pub fn template(server_name: &ServerName) -> String {
    include_str!("template.toml").replace("@SERVER_NAME@", server_name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn load(text: &str) -> Result<Config, crate::config::Problems> {
        Config::load(Sources {
            text,
            variables: &[],
            read_secret: &|_| Err(std::io::ErrorKind::NotFound.into()),
            examine: &|_| Vec::new(),
        })
    }

    #[test]
    fn the_template_is_valid() {
        let config = load(&template(ruma::server_name!("example.org"))).unwrap();

        assert_eq!(config.server_name, "example.org");
    }

    /// Every `#key = value` line, so that what is commented out does not rot.
    #[test]
    fn the_template_is_valid_with_all_comments_taken_off() {
        let text: String = template(ruma::server_name!("example.org"))
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with([' ', '#']) => format!("{rest}\n"),
                Some(_) | None => format!("{line}\n"),
            })
            .collect();

        load(&text).unwrap();
    }
}
