package pgbinary

import "github.com/jackc/pgx/v5/pgtype"

// Kind tells how the values of a type are given.
type Kind byte

const (
	None      Kind = iota // not at all: only as text
	Raw                   // the bytes of the text themselves
	JSONB                 // behind the version of the format
	Bool                  //
	Int2                  //
	Int4                  //
	Int8                  //
	OID                   // int4 without sign
	Float4                //
	Float8                //
	Numeric               //
	UUID                  //
	Bytea                 //
	Date                  //
	Time                  //
	Timestamp             //
	Zoned                 // timestamp with time zone
)

var kinds = map[uint32]Kind{
	pgtype.TextOID: Raw, pgtype.VarcharOID: Raw, pgtype.BPCharOID: Raw, pgtype.JSONOID: Raw, pgtype.JSONBOID: JSONB,
	pgtype.BoolOID: Bool, pgtype.Int2OID: Int2, pgtype.Int4OID: Int4, pgtype.Int8OID: Int8, pgtype.OIDOID: OID,
	pgtype.Float4OID: Float4, pgtype.Float8OID: Float8, pgtype.NumericOID: Numeric,
	pgtype.UUIDOID: UUID, pgtype.ByteaOID: Bytea,
	pgtype.DateOID: Date, pgtype.TimeOID: Time, pgtype.TimestampOID: Timestamp, pgtype.TimestamptzOID: Zoned,
}

// KindOf returns the kind of a type's values by its OID, for a domain that of the type below it, and whether that type is an enum.
func KindOf(oid uint32, enum bool) Kind {
	if enum {
		return Raw
	}
	return kinds[oid]
}

// All reports whether every kind of a row is known, and there is one: a row without columns has no form of its own in COPY.
func All(row []Kind) bool {
	for _, k := range row {
		if k == None {
			return false
		}
	}
	return len(row) > 0
}
