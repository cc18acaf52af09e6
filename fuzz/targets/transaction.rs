//! Requests of other servers before they are believed: the `Authorization` header, and the body as it is signed.

#![no_main]

use hearth_federation::authentication::{Claim, Content};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use libfuzzer_sys::fuzz_target;
use ruma::{
    api::{
        IncomingRequestExt as _, federation::transactions::send_transaction_message::v1::Request,
    },
    server_name,
};
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        let _ = Claim::read(&headers);
    }
    let content = Content {
        method: &Method::PUT,
        uri: &Uri::from_static("/_matrix/federation/v1/send/1"),
        body: data,
    };
    let names = (server_name!("there.example"), server_name!("here.example"));
    if let Ok(signed) = content.signed(names.0, names.1) {
        serde_json::from_str::<&RawValue>(&signed).expect("what is signed is JSON");
    }
    let request = http::Request::put("/_matrix/federation/v1/send/1").body(data);
    let request = request.expect("the parts are right");
    let _ = Request::try_from_http_request(request, &["1"]);
});
