//! DNS messages (RFC 1035), as far as one is asked for one name and answers with addresses.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};

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

fn query(payload: &[u8]) -> Option<Message> {
    let message = Message::from_vec(payload).ok()?;
    let metadata = &message.metadata;
    (metadata.message_type == MessageType::Query && metadata.op_code == OpCode::Query).then_some(message)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn ask(kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("abs.twimg.com.").unwrap(), kind));
        message.to_vec().unwrap()
    }

    #[test]
    fn a_question_is_read_and_answered_in_its_family() {
        let query = ask(RecordType::A);
        assert_eq!(question(&query).as_deref(), Some("abs.twimg.com"));
        let both = ["10.10.34.35".parse().unwrap(), "fd65::1".parse().unwrap()];
        let answered = Message::from_vec(&answer(&query, &both).unwrap()).unwrap();
        assert_eq!(answered.answers.len(), 1);
        assert_eq!(answered.answers[0].record_type(), RecordType::A);
        assert_eq!(question(&answer(&query, &both).unwrap()), None, "an answer is no question");
    }

    #[test]
    fn no_addresses_mean_no_such_name() {
        let answered = Message::from_vec(&answer(&ask(RecordType::AAAA), &[]).unwrap()).unwrap();
        assert_eq!(answered.metadata.response_code, ResponseCode::NXDomain);
    }
}
