//! What the commands do and say.

use sqlx::PgPool;

use super::process::Scene;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_generated_configuration_is_in_order() {
    let scene = Scene::new(None, "");
    let generated = scene.run(&["generate-config", "--server-name", "example.org"]);
    assert!(generated.status.success());

    scene.configure(&text(&generated.stdout));
    let checked = scene.run(&["check-config"]);

    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("example.org"));
}

#[test]
fn a_server_name_that_is_none_is_refused() {
    let output = Scene::new(None, "").run(&["generate-config", "--server-name", "a b"]);

    assert!(!output.status.success());
}

#[test]
fn a_bad_configuration_is_refused_line_by_line_by_all_commands() {
    let scene = Scene::new(None, "");
    scene.configure(
        "server_nam = \"x\"\n[limits]\nmax_body = 7\n[log]\nlevel = \"inof\"\n[federation]\nca_file = \"nowhere.pem\"\n\
         [[listen]]\nbind = \"127.0.0.1:0\"\ntls = { cert = \"c.pem\", key = \"k.pem\" }\n",
    );

    for command in [
        &["check-config"][..],
        &["serve"],
        &["register-user", "-u", "a", "-p", "b"],
        &["check-config", "--config", "hearth.toml"],
    ] {
        let output = scene.run(command);
        let said = text(&output.stderr);

        assert!(!output.status.success());
        for (line, key) in [
            (1, "server_nam"),
            (3, "limits.max_body"),
            (5, "log.level"),
            (7, "federation.ca_file"),
            (10, "listen.0.tls"),
        ] {
            let begin = format!("hearth.toml, line {line}: {key}: ");
            assert!(said.contains(&begin), "{begin:?} is not in {said}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = Scene::new(None, "").run(&["check-config", "--config", "nowhere.toml"]);

    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("cannot read nowhere.toml"));
}

#[sqlx::test(migrations = false)]
async fn a_user_registered_beside_a_running_server_can_log_in(pool: PgPool) {
    let scene = Scene::new(Some(&pool), "");
    let server = scene.serve();

    let output = scene.run(&[
        "register-user",
        "-u",
        "alice",
        "-p",
        "wonderland",
        "--admin",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("@alice:localhost"));
    let again = scene.run(&["register-user", "-u", "alice", "-p", "wonderland"]);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("taken"));

    let login = r#"{"type":"m.login.password","password":"wonderland",
        "identifier":{"type":"m.id.user","user":"alice"}}"#;
    let (status, body) = server.ask("POST", "/_matrix/client/v3/login", login);
    assert_eq!(status, 200, "{body}");
}

#[sqlx::test(migrations = false)]
async fn a_taken_address_ends_the_start_with_a_sentence(pool: PgPool) {
    let scene = Scene::new(Some(&pool), "");
    let first = scene.serve();
    let taken = scene.configuration().replace("127.0.0.1:0", &first.address);
    scene.configure(&taken);

    let output = scene.run(&["serve"]);

    assert!(!output.status.success());
    let expected = format!("cannot listen on {}", first.address);
    assert!(text(&output.stderr).contains(&expected));
}

#[test]
fn an_absent_database_ends_the_start_with_a_sentence() {
    let output = Scene::new(None, "").run(&["serve"]);

    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("cannot connect to the database at 127.0.0.1:1"),
        "{said}"
    );
}
