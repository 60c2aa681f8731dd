//! `ringmail req`: one request, its answer on standard output.

use super::args::{Codec, Req, ReqOutput};
use super::failure::{Failure, print};
use super::peer;
use crate::base::exit::Status;
use crate::client::{self, Code, Error, MESSAGE_BYTES_CEILING, Request, Response};
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::{Duration, Instant};

/// With --wait, the time between two checks for a server of the service.
const SERVICE_INTERVAL: Duration = Duration::from_millis(50);

/// Sends the request and prints the answer.
///
/// # Errors
/// No server, or the request failed.
pub fn run(args: &Req) -> Result<(), Failure> {
    // The payload first: a connection should not wait for someone typing.
    let payload = payload(args.payload.as_deref())?;
    let mut client = peer::connect(&args.peer, args.timeout)?;
    let request = Request::new(&args.service)
        .payload(&payload)
        .codec(args.codec.into())
        .timeout(args.timeout);
    let patience = Instant::now() + args.peer.wait;
    let (response, time) = loop {
        let started = Instant::now();
        let response = client.request_with(&request);
        match &response {
            Err(Error::Failed { code, .. }) if *code == Code::NoService && started < patience => {
                thread::sleep(SERVICE_INTERVAL);
            }
            _ => break (response, started.elapsed()),
        }
    };
    let response = response.map_err(|error| peer::failure(&error))?;
    let _ = client.close(); // the answer is here: how the server says goodbye changes nothing

    match args.output {
        ReqOutput::Raw => {
            let mut bytes = response.payload;
            if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            print(&bytes)
        }
        ReqOutput::Json => print(record(&args.service, &response, time).as_bytes()),
    }
}

fn payload(argument: Option<&OsStr>) -> Result<Vec<u8>, Failure> {
    match argument {
        Some(text) if text != "-" => return Ok(text.as_bytes().to_vec()),
        None if io::stdin().is_terminal() => return Ok(Vec::new()),
        _ => {}
    }
    let bytes_max = u64::from(MESSAGE_BYTES_CEILING);
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let text = format!("cannot read the payload from standard input: {error}");
            Failure::new(Status::Runtime, text)
        })?;
    if bytes.len() as u64 > bytes_max {
        let text = "the payload on standard input is larger than any server accepts (1 GiB)";
        return Err(Failure::new(Status::Usage, text));
    }
    Ok(bytes)
}

/// One JSON object and a newline. The payload is itself where it is JSON, a string where it
/// is text, else hexadecimal under another name.
fn record(service: &str, response: &Response, time: Duration) -> String {
    let mut record = serde_json::json!({
        "service": service,
        "codec": match response.codec {
            client::Codec::Bytes => "bytes",
            client::Codec::Json => "json",
            client::Codec::Protobuf => "protobuf",
        },
        "bytes": response.payload.len(),
        "time_ms": time.as_nanos() as f64 / 1e6,
    });
    let json = match response.codec {
        client::Codec::Json => serde_json::from_slice(&response.payload).ok(),
        _ => None,
    };
    let text = || std::str::from_utf8(&response.payload).ok().map(Into::into);
    match json.or_else(text) {
        Some(value) => record["payload"] = value,
        None => {
            let digits: Vec<String> = response
                .payload
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            record["payload_hex"] = digits.concat().into();
        }
    }
    format!("{record}\n")
}

impl From<Codec> for client::Codec {
    fn from(codec: Codec) -> client::Codec {
        match codec {
            Codec::Bytes => client::Codec::Bytes,
            Codec::Json => client::Codec::Json,
            Codec::Protobuf => client::Codec::Protobuf,
        }
    }
}
