use super::*;
use crate::config::{Bind, LogFormat, Storage};

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Vec<_> = variables.iter().map(owned).collect();
    Config::load(Sources {
        text,
        variables: &variables,
        read_secret: &|path| match path.to_str() {
            Some("secret.txt") => Ok("from a file\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        examine: &|_| Vec::new(),
    })
    .map_err(|problems| problems.to_string())
}

fn load(text: &str) -> Result<Config, String> {
    load_with(text, &[])
}

fn lines(result: Result<Config, String>) -> Vec<String> {
    result.unwrap_err().lines().map(str::to_owned).collect()
}

#[test]
fn nothing_means_the_defaults() {
    let config = load("").unwrap();

    assert_eq!(config.server_name, "localhost");
    assert_eq!(config.listen[0].bind.to_string(), "127.0.0.1:8008");
    assert_eq!(config.data_dir, Path::new("data"));
    assert!(!config.registration.enabled);
    assert!(config.database.url.is_none());
}

/// The example that the design of the project gives to others.
#[test]
fn the_documented_configuration_is_accepted() {
    let text = r#"
        server_name = "example.org"
        data_dir = "data"
        public_baseurl = "https://matrix.example.org"
        [[listen]]
        bind = "127.0.0.1:8008"
        tls = { cert = "c.pem", key = "k.pem" }
        [[listen]]
        bind = "unix:/run/hearth.sock"
        [database]
        url = "postgres://hearth@localhost/hearth"
        [redis]
        url = "redis://localhost"
        [media]
        storage = { type = "s3", endpoint = "http://localhost:9000", bucket = "b", region = "r", access_key = "k", secret_key = "s" }
        [registration]
        enabled = true
        shared_secret = "secret"
        token = "token"
        [federation]
        enabled = true
        ca_file = "extra-ca.pem"
        allow_private_addresses = true
        trusted_key_servers = []
        [rooms]
        default_version = "12"
        [email]
        smtp = "smtp://localhost:2525"
        from = "Hearth <noreply@example.org>"
        [limits]
        rate_limit = false
        [[appservices]]
        registration = "bridge.yaml"
    "#;

    let config = load(text).unwrap();

    assert_eq!(config.listen.len(), 2);
    assert!(matches!(config.media.storage, Storage::S3(_)));
    assert!(!config.limits.rate_limit);
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "server_nam = \"x\"\n\
                server_name = 7\n\
                [limits]\n\
                login = { per_second = 1, burst = 0 }\n\
                join = { per_second = 1, burst = 5, brust = 5 }\n\
                [registration]\n\
                enabled = \"yes\"\n\
                [[listen]]\n\
                bind = \"localhost:1\"\n\
                [presence]\n\
                enabled = true\n\
                [voip]\n\
                turn_uris = [\"turn:a\"]\n";

    let lines = lines(load(text));

    let begins = [
        "line 1: server_nam: unknown key `server_nam`",
        "line 2: server_name: invalid type: integer `7`",
        "line 4: limits.login.burst: invalid value",
        "line 5: limits.join.brust: unknown key `brust`",
        "line 7: registration.enabled: invalid type",
        "line 9: listen.0.bind: \"localhost:1\" is neither",
        "line 13: voip.turn_uris: turn_shared_secret is missing",
    ];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(
            line.starts_with(begin),
            "{line:?} does not begin with {begin:?}"
        );
    }
    assert_eq!(lines.len(), begins.len());
}

#[test]
fn a_mistake_of_syntax_is_told_with_its_line() {
    let lines = lines(load("server_name = \"a\"\n[database\n"));

    assert!(lines[0].starts_with("line 2: "), "{lines:?}");
}

#[test]
fn a_broken_value_is_not_missed_as_well() {
    let lines = lines(load("[redis]\nurl = 7\n[email]\nsmtp = 1\nfrom = 2\n"));

    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("missing")));
}

#[test]
fn a_missing_key_is_missed() {
    assert_eq!(
        lines(load("[redis]\n")),
        ["line 1: redis: missing key `url`"]
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (text, expected) in [
        ("listen = []", "line 1: listen: no address"),
        (
            "[log]\nlevel = \"inof\"",
            "line 2: log.level: \"inof\" is none of",
        ),
        ("roles = []", "line 1: roles: "),
        (
            "public_baseurl = \"matrix.org\"",
            "line 1: public_baseurl: \"matrix.org\" is not",
        ),
        (
            "[rooms]\ndefault_version = \"99\"",
            "line 2: rooms.default_version: \"99\" is none of 2, 3",
        ),
        (
            "[limits]\nmax_body = 10",
            "line 2: limits.max_body: smaller than an event",
        ),
        (
            "[limits]\nlogin = { per_second = 0, burst = 1 }",
            "line 2: limits.login.per_second: ",
        ),
        (
            "[database]\nurl = \"mysql://secret\"",
            "line 2: database.url: the address begins",
        ),
        (
            "[registration]\ntoken = \"a b\"",
            "line 2: registration.token: a token has",
        ),
        (
            "[support]\ncontacts = [{ role = \"a\" }]",
            "line 2: support.contacts.0: a contact",
        ),
        (
            "[metrics]\nbind = \"127.0.0.1:8008\"",
            "line 2: metrics.bind: 127.0.0.1:8008 is",
        ),
        (
            "[[listen]]\nbind = \"[::]:1\"\n[[listen]]\nbind = \"[::]:1\"",
            "line 4: listen.1.bind: ",
        ),
    ] {
        let lines = lines(load(text));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(expected), "{lines:?}");
        assert!(!lines[0].contains("secret"));
    }
}

#[test]
fn variables_override_the_file() {
    let text =
        "server_name = \"a.org\"\n[database]\nmax_connections = 5\n[log]\nformat = \"text\"\n";
    let config = load_with(
        text,
        &[
            ("PATH", "/bin"),
            ("HEARTH_CONFIG", "hearth.toml"),
            ("HEARTH_SERVER_NAME", "b.org"),
            ("HEARTH_DATABASE__MAX_CONNECTIONS", "7"),
            ("HEARTH_DATABASE__URL", "postgres://b"),
            ("HEARTH_LOG__FORMAT", "json"),
            ("HEARTH_REGISTRATION__ENABLED", "true"),
            ("HEARTH_LIMITS__LOGIN", "{ per_second = 2.5, burst = 3 }"),
            ("HEARTH_METRICS__BIND", "127.0.0.1:9000"),
        ],
    )
    .unwrap();

    assert_eq!(config.server_name, "b.org");
    assert_eq!(config.database.max_connections, 7);
    assert_eq!(config.database.url.unwrap().expose(), "postgres://b");
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.registration.enabled);
    assert_eq!(config.limits.login.burst.get(), 3);
    assert!(matches!(config.metrics.bind, Some(Bind::Tcp(_))));
}

#[test]
fn a_secret_in_a_variable_may_look_like_a_number() {
    let variables = [
        ("HEARTH_REGISTRATION__SHARED_SECRET", "123456"),
        ("HEARTH_REGISTRATION__TOKEN", "true"),
    ];

    let registration = load_with("", &variables).unwrap().registration;

    assert_eq!(registration.shared_secret.unwrap().expose(), "123456");
    assert_eq!(registration.token.unwrap().expose(), "true");
}

#[test]
fn listeners_in_a_variable_may_be_a_list_of_addresses() {
    let variables = [("HEARTH_LISTEN", "0.0.0.0:80, unix:/run/h.sock")];

    let listen = load_with("", &variables).unwrap().listen;

    let binds: Vec<_> = listen
        .iter()
        .map(|listener| listener.bind.to_string())
        .collect();
    assert_eq!(binds, ["0.0.0.0:80", "unix:/run/h.sock"]);
}

#[test]
fn a_mistake_in_a_variable_is_told_with_its_name() {
    let variables = [
        ("HEARTH_LOG__FORMAT", "xml"),
        ("HEARTH_NONSENSE", "1"),
        ("HEARTH_SERVER_NAME__X", "1"),
        ("HEARTH_LIMITS__MAX_BODY", "1"),
    ];

    let lines = lines(load_with("server_name = \"a.org\"", &variables));

    let begins = [
        "HEARTH_LIMITS__MAX_BODY: limits.max_body: smaller",
        "HEARTH_LOG__FORMAT: log.format: unknown variant `xml`",
        "HEARTH_NONSENSE: nonsense: unknown key",
        "HEARTH_SERVER_NAME__X: server_name.x: no such table",
    ];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(
            line.starts_with(begin),
            "{line:?} does not begin with {begin:?}"
        );
    }
    assert_eq!(lines.len(), begins.len());
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let config = load("[registration]\nshared_secret_file = \"secret.txt\"\n").unwrap();
    assert_eq!(
        config.registration.shared_secret.unwrap().expose(),
        "from a file"
    );

    let missing = lines(load("[redis]\nurl_file = \"nowhere\"\n"));
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0].starts_with("line 2: redis.url_file: cannot read nowhere"),
        "{missing:?}"
    );

    let both = "[registration]\ntoken = \"a\"\ntoken_file = \"secret.txt\"\n";
    assert_eq!(
        lines(load(both)),
        ["line 3: registration.token_file: token is set as well"]
    );
}

#[test]
fn a_configuration_does_not_show_its_secrets() {
    let text = "[registration]\nshared_secret = \"tell-nobody\"\n\
                [database]\nurl = \"postgres://u:tell-nobody@h/d\"\n";

    assert!(!format!("{:?}", load(text).unwrap()).contains("tell-nobody"));
}
