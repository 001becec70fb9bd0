//! DNS messages (RFC 1035), as far as one is asked for one name and answers with addresses.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::model::Family;

/// Seconds an answer made here is good for: a laboratory's names change with its next run.
const TTL: u32 = 1;

/// The name a query asks for, without the final dot; nothing where this is no query.
pub fn question(payload: &[u8]) -> Option<String> {
    let message = query(payload)?;
    let name = message.queries.first()?.name().to_ascii();
    Some(name.trim_end_matches('.').to_owned())
}

/// An answer to a query: those of the addresses that are of the family asked for, or "no such name" where there are no
/// addresses at all.
pub fn answer(payload: &[u8], addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let message = query(payload)?;
    let asked = message.queries.first()?.clone();
    let mut response = Message::response(message.metadata.id, OpCode::Query);
    response.metadata.recursion_desired = message.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    if addresses.is_empty() {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    for address in addresses {
        let data = match (address, asked.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A((*v4).into()),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA((*v6).into()),
            _ => continue,
        };
        response.add_answer(Record::from_rdata(asked.name().clone(), TTL, data));
    }
    response.add_query(asked);
    response.to_vec().ok()
}

/// A query for a host's addresses of one family, with the id 0 that caches like (RFC 8484, section 4.1); nothing where the
/// host is no name.
pub fn ask(host: &str, family: Family) -> Option<Vec<u8>> {
    let mut name = Name::from_ascii(host).ok()?;
    name.set_fqdn(true);
    let kind = match family {
        Family::Ipv4 => RecordType::A,
        Family::Ipv6 => RecordType::AAAA,
    };
    let mut message = Message::query();
    message.metadata.id = 0;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().ok()
}

/// The addresses of an answer; nothing where it is none, or one of an error.
pub fn addresses(payload: &[u8]) -> Option<Vec<IpAddr>> {
    let message = Message::from_vec(payload).ok()?;
    let good = message.metadata.message_type == MessageType::Response
        && message.metadata.response_code == ResponseCode::NoError;
    let address = |record: &Record| match &record.data {
        RData::A(v4) => Some(IpAddr::V4(v4.0)),
        RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
        _ => None,
    };
    good.then(|| message.answers.iter().filter_map(address).collect())
}

fn query(payload: &[u8]) -> Option<Message> {
    let message = Message::from_vec(payload).ok()?;
    let metadata = &message.metadata;
    (metadata.message_type == MessageType::Query && metadata.op_code == OpCode::Query).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_and_answered_in_its_family() {
        let query = ask("abs.twimg.com", Family::Ipv4).unwrap();
        assert_eq!(question(&query).as_deref(), Some("abs.twimg.com"));
        let both = ["10.10.34.35".parse().unwrap(), "fd65::1".parse().unwrap()];
        let answered = answer(&query, &both).unwrap();
        assert_eq!(addresses(&answered).unwrap(), both[..1]);
        assert_eq!(question(&answered), None, "an answer is no question");
        assert_eq!(addresses(&query), None, "a question is no answer");
    }

    #[test]
    fn no_addresses_mean_no_such_name() {
        let query = ask("abs.twimg.com", Family::Ipv6).unwrap();
        assert_eq!(addresses(&answer(&query, &[]).unwrap()), None);
    }
}
