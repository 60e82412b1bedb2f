package org.classkinfy.demo

import android.content.ContentResolver
import android.net.Uri
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream

/** Photos that other apps hand over, which may be anything. */
internal object Photos {
    private const val MAX_BYTES = 64 shl 20

    /** @throws IOException it cannot be read, or is no photo by its size */
    fun read(resolver: ContentResolver, photo: Uri): ByteArray =
        (resolver.openInputStream(photo) ?: throw IOException("it is gone")).use { read(it, MAX_BYTES) }

    fun read(stream: InputStream, most: Int): ByteArray {
        val bytes = ByteArrayOutputStream()
        val buffer = ByteArray(1 shl 16)
        while (true) {
            val count = stream.read(buffer)
            if (count < 0) return bytes.toByteArray()
            bytes.write(buffer, 0, count)
            if (bytes.size() > most) throw IOException("it has more than $most bytes")
        }
    }
}
