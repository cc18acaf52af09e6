//! The steps of the specification's "Resolving server names", one after the other.

mod internet;

use hickory_resolver::proto::rr::RecordType;

use self::internet::{Answer, Internet, MATRIX, Site, WEB, loopback_v6};
use crate::client::RequestError;

fn answer(from: &str, host: &str, sni: &str) -> Answer {
    Answer {
        from: from.to_owned(),
        host: host.to_owned(),
        sni: sni.to_owned(),
    }
}

/// An internet where `a.test` is `web` and says that its server is `server`.
async fn delegated(server: &str) -> Internet {
    let internet = Internet::new().await;
    internet.host("a.test", 1);
    let web = Site::delegating("a.test", server);
    internet.serve(1, WEB, web).await;
    internet
}

/// Step 1.
#[tokio::test]
async fn an_address_is_gone_to_and_nobody_is_asked() {
    let internet = Internet::new().await;
    let address = internet.address(1).to_string();
    let port = internet.serve(1, 0, Site::new("one", &address)).await;
    internet
        .serve(1, MATRIX, Site::new("usual", &address))
        .await;
    let web = Site::delegating(&address, "b.test:1");
    internet.serve(1, WEB, web).await;
    let mut servers = vec![(format!("{address}:{port}"), "one"), (address, "usual")];
    // Not every machine has IPv6.
    let v6 = (loopback_v6(), 0).into();
    if std::net::TcpListener::bind::<std::net::SocketAddr>(v6).is_ok() {
        let port = internet.serve_at(v6, Site::new("six", "::1")).await;
        servers.push((format!("[::1]:{port}"), "six"));
    }

    for (server, from) in servers {
        let found = internet.ask(&server).await.unwrap();
        assert_eq!(found, answer(from, &server, ""));
    }
    assert_eq!(internet.questions(), 0);
}

/// Step 2.
#[tokio::test]
async fn a_port_is_gone_to_whatever_well_known_files_and_services_say() {
    let internet = delegated("b.test:1").await;
    let port = internet.serve(1, 0, Site::new("one", "a.test")).await;
    internet.service("_matrix-fed._tcp.a.test", 0, ("a.test", 1));

    let found = internet.ask(&format!("a.test:{port}")).await.unwrap();

    assert_eq!(found, answer("one", &format!("a.test:{port}"), "a.test"));
    assert!(!internet.was_asked(RecordType::SRV, "_matrix-fed._tcp.a.test"));
}

/// Step 3.1.
#[tokio::test]
async fn a_well_known_file_may_name_an_address() {
    let internet = Internet::new().await;
    let address = internet.address(2).to_string();
    let port = internet.serve(2, 0, Site::new("one", &address)).await;
    internet
        .serve(2, MATRIX, Site::new("usual", &address))
        .await;
    let with_port = format!("{address}:{port}");
    for (name, number, server) in [("a.test", 1, &with_port), ("b.test", 3, &address)] {
        internet.host(name, number);
        let web = Site::delegating(name, server);
        internet.serve(number, WEB, web).await;
    }

    let one = internet.ask("a.test").await.unwrap();
    let usual = internet.ask("b.test").await.unwrap();

    assert_eq!(one, answer("one", &with_port, ""));
    assert_eq!(usual, answer("usual", &address, ""));
}

/// Step 3.2.
#[tokio::test]
async fn a_well_known_file_may_name_a_port() {
    let internet = Internet::new().await;
    let port = internet.serve(2, 0, Site::new("one", "b.test")).await;
    let server = format!("b.test:{port}");
    internet.host("a.test", 1);
    internet.alias("b.test", "c.test");
    internet.host("c.test", 2);
    let web = Site::delegating("a.test", &server);
    internet.serve(1, WEB, web).await;

    let found = internet.ask("a.test").await.unwrap();

    assert_eq!(found, answer("one", &server, "b.test"));
    assert!(!internet.was_asked(RecordType::SRV, "_matrix-fed._tcp.b.test"));
}

/// Steps 3.3 and 3.4: the certificate is for the delegated name, not for the target of the record.
#[tokio::test]
async fn a_delegated_name_has_its_services_the_newer_one_first() {
    let internet = delegated("b.test").await;
    let newer = internet.serve(2, 0, Site::new("newer", "b.test")).await;
    let older = internet.serve(2, 0, Site::new("older", "b.test")).await;
    internet.host("target.test", 2);
    internet.service("_matrix-fed._tcp.b.test", 0, ("target.test", newer));
    internet.service("_matrix._tcp.b.test", 0, ("target.test", older));
    internet.service("_matrix-fed._tcp.a.test", 0, ("target.test", 1));

    let found = internet.ask("a.test").await.unwrap();

    assert_eq!(found, answer("newer", "b.test", "b.test"));
    assert!(!internet.was_asked(RecordType::SRV, "_matrix-fed._tcp.a.test"));
}

#[tokio::test]
async fn a_delegated_name_may_have_the_older_service_only() {
    let internet = delegated("b.test").await;
    let port = internet.serve(2, 0, Site::new("older", "b.test")).await;
    internet.host("target.test", 2);
    internet.service("_matrix._tcp.b.test", 0, ("target.test", port));

    let found = internet.ask("a.test").await.unwrap();

    assert_eq!(found, answer("older", "b.test", "b.test"));
}

/// Step 3.5.
#[tokio::test]
async fn a_delegated_name_without_services_has_the_usual_port() {
    let internet = delegated("b.test").await;
    internet.host("b.test", 2);
    internet
        .serve(2, MATRIX, Site::new("usual", "b.test"))
        .await;

    let found = internet.ask("a.test").await.unwrap();

    assert_eq!(found, answer("usual", "b.test", "b.test"));
}

/// Steps 4 and 5.
#[tokio::test]
async fn without_a_well_known_file_the_name_itself_has_services() {
    let internet = Internet::new().await;
    let newer = internet.serve(2, 0, Site::new("newer", "a.test")).await;
    let older = internet.serve(2, 0, Site::new("older", "b.test")).await;
    internet.host("target.test", 2);
    internet.service("_matrix-fed._tcp.a.test", 0, ("target.test", newer));
    internet.service("_matrix._tcp.a.test", 0, ("target.test", older));
    internet.service("_matrix._tcp.b.test", 0, ("target.test", older));

    let a = internet.ask("a.test").await.unwrap();
    let b = internet.ask("b.test").await.unwrap();

    assert_eq!(a, answer("newer", "a.test", "a.test"));
    assert_eq!(b, answer("older", "b.test", "b.test"));
}

/// Step 6.
#[tokio::test]
async fn a_name_of_which_nothing_is_known_has_the_usual_port() {
    let internet = Internet::new().await;
    internet.host("a.test", 1);
    internet
        .serve(1, MATRIX, Site::new("usual", "a.test"))
        .await;
    // A web server without the file changes nothing.
    internet.serve(1, WEB, Site::new("web", "a.test")).await;

    let found = internet.ask("a.test").await.unwrap();

    assert_eq!(found, answer("usual", "a.test", "a.test"));
}

#[tokio::test]
async fn who_does_not_answer_is_followed_by_the_next_of_a_service() {
    let internet = Internet::new().await;
    let port = internet.serve(2, 0, Site::new("second", "a.test")).await;
    internet.host("target.test", 2);
    internet.host("gone.test", 3);
    internet.service("_matrix-fed._tcp.a.test", 20, ("target.test", port));
    internet.service("_matrix-fed._tcp.a.test", 10, ("gone.test", port));

    let found = internet.ask("a.test").await.unwrap();

    assert_eq!(found, answer("second", "a.test", "a.test"));
}

#[tokio::test]
async fn a_certificate_for_the_target_of_a_record_is_not_enough() {
    let internet = Internet::new().await;
    let port = internet
        .serve(2, 0, Site::new("wrong", "target.test"))
        .await;
    internet.host("target.test", 2);
    internet.service("_matrix-fed._tcp.a.test", 0, ("target.test", port));

    let refused = internet.ask("a.test").await.unwrap_err();

    let RequestError::Unreachable(reason) = &refused else {
        panic!("{refused}")
    };
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn a_certificate_for_the_name_that_delegates_is_not_enough() {
    let internet = delegated("b.test").await;
    internet.host("b.test", 2);
    internet
        .serve(2, MATRIX, Site::new("wrong", "a.test"))
        .await;

    let refused = internet.ask("a.test").await.unwrap_err();

    assert!(matches!(refused, RequestError::Unreachable(_)), "{refused}");
}
