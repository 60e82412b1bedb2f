"""Answers on record, in any database that SQLAlchemy knows: what was answered, never the photo.

The photo is kept where that is asked for. An answer is committed before it is given, so none that
was given is lost.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, LargeBinary, String, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from classkinfy_export.errors import ClasskinfyError, MissingDependencyError
from classkinfy_export.runtimes.session import Prediction


class Base(DeclarativeBase):
    """Tables."""


class Record(Base):
    """One answer."""

    __tablename__ = "predictions"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    bundle: Mapped[str] = mapped_column(String(64), index=True)
    """SHA-256 of the manifest."""
    result: Mapped[dict[str, Any]] = mapped_column(JSON)
    quality: Mapped[dict[str, float]] = mapped_column(JSON)
    image: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The photo as it came; none unless asked."""


class Records:
    """A table of answers.

    Args:
        url: of a database: ``sqlite:///answers.db``, ``postgresql+psycopg://user@host/name``.
        images: whether photos are kept too.

    Raises:
        ClasskinfyError: the database cannot be opened, or the URL is none.
        MissingDependencyError: its driver is not installed.
    """

    def __init__(self, url: str, *, images: bool = False) -> None:
        self._images = images
        try:
            # An error's text would have the statement's values: the answer.
            self._engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
            place = self._engine.url.database
            if self._engine.dialect.name == "sqlite" and place in (None, "", ":memory:"):
                raise ValueError("a database in memory is gone when the server ends")
            Base.metadata.create_all(self._engine)
        except ImportError as error:
            raise MissingDependencyError(
                f"recording needs a driver that does not import: {error}",
                hint="for PostgreSQL: pip install 'psycopg[binary]'",
            ) from error
        except (SQLAlchemyError, ValueError, TypeError) as error:
            reason = str(getattr(error, "orig", None) or error)
            raise ClasskinfyError(
                f"answers cannot be recorded: {reason}",
                hint="give a URL such as sqlite:///answers.db, where there is room to write",
            ) from error
        self._sessions = sessionmaker(self._engine)

    def add(self, prediction: Prediction, photo: bytes) -> str:
        """Record an answer, and return its id. Raises SQLAlchemyError when it is not kept."""
        record = Record(
            id=str(uuid.uuid4()),
            time=datetime.now(UTC),
            bundle=prediction.bundle,
            result=prediction.to_json(),
            quality=prediction.quality,
            image=photo if self._images else None,
        )
        try:
            with self._sessions.begin() as session:
                session.add(record)
                return record.id
        except SQLAlchemyError:
            # A connection that SQLite opened on a read-only disk stays read-only.
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
