package org.classkinfy.demo

import java.io.ByteArrayInputStream
import java.io.IOException
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class PhotosTest {
    private val bytes = ByteArray(200_000) { it.toByte() }

    @Test
    fun allBytesAreRead() = assertArrayEquals(bytes, Photos.read(ByteArrayInputStream(bytes), bytes.size))

    @Test
    fun whatIsTooLargeForAPhotoIsRefused() {
        assertThrows(IOException::class.java) { Photos.read(ByteArrayInputStream(bytes), bytes.size - 1) }
    }
}
