package segment

import "encoding/binary"

// appendRelation encodes a relation definition.
func appendRelation(b []byte, r *Relation) []byte {
	b = binary.AppendUvarint(b, uint64(r.ID))
	b = appendString(b, r.Namespace)
	b = appendString(b, r.Name)
	b = append(b, r.Identity)
	b = binary.AppendUvarint(b, uint64(len(r.Columns)))
	for i := range r.Columns {
		c := &r.Columns[i]
		b = append(b, c.Flags)
		b = appendString(b, c.Name)
		b = binary.AppendUvarint(b, uint64(c.TypeOID))
		b = appendSvarint(b, int64(c.Modifier))
	}
	return b
}

// relation decodes a relation definition. The columns' memory grows with the bytes that are there.
func (c *cursor) relation() *Relation {
	r := &Relation{ID: c.uint32(), Namespace: c.string(), Name: c.string(), Identity: c.byte()}
	n := int(c.limited(maxColumns))
	if n > c.rest()/4 { // a column takes at least four bytes
		c.fail(errShort)
		return r
	}
	r.Columns = make([]Column, 0, n)
	for range n {
		r.Columns = append(r.Columns, Column{Flags: c.byte(), Name: c.string(), TypeOID: c.uint32(), Modifier: c.int32()})
	}
	return r
}

// Sizes of the pgoutput messages (protocol 1), for the count of raw bytes.
const (
	rawBegin    = 1 + 8 + 8 + 4
	rawCommit   = 1 + 1 + 8 + 8 + 8
	rawRow      = 1 + 4     // type, OID
	rawTuple    = 1 + 2     // role, number of columns
	rawValue    = 1 + 4     // kind, length of a text value
	rawMessage  = 1 + 1 + 8 // type, flags, LSN
	rawTruncate = 1 + 4 + 1 // type, number, options
)

func rawRelation(r *Relation) int64 {
	n := int64(1 + 4 + len(r.Namespace) + 1 + len(r.Name) + 1 + 1 + 2)
	for i := range r.Columns {
		n += int64(1 + len(r.Columns[i].Name) + 1 + 4 + 4)
	}
	return n
}

func rawTypeDef(t TypeDef) int64 { return int64(1 + 4 + len(t.Namespace) + 1 + len(t.Name) + 1) }

func rawOrigin(o Origin) int64 { return int64(1 + 8 + len(o.Name) + 1) }

func rawContent(h MessageHeader) int64 { return rawMessage + int64(len(h.Prefix)) + 1 + 4 + h.Size }
